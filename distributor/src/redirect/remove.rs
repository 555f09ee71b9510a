//! Taking the redirection away: everything that can be, whatever fails on the way.

use tracing::info;

use super::Error;
use super::family::{Family, Ipv6};
use super::host::{Host, Invocation};
use super::rules::{self, JUMPS};

/// Removes both families' rules and `::6`.
pub(super) fn remove(host: &mut impl Host) -> Result<(), Error> {
    let mut errors = Vec::new();
    uninstall(host, Family::V4, &mut errors);
    match Ipv6::detect(host) {
        Ok(Ipv6::Full { has_passthrough }) => {
            uninstall(host, Family::V6, &mut errors);
            if has_passthrough {
                errors.extend(
                    Invocation::new("ip", "-6 addr del ::6/128 dev lo")
                        .run(host)
                        .err(),
                );
            }
        }
        Ok(Ipv6::NotOnLoopback) => uninstall(host, Family::V6, &mut errors),
        Ok(Ipv6::Absent) => {}
        Err(error) => errors.push(error),
    }
    if errors.is_empty() {
        info!("the redirection is gone");
        Ok(())
    } else {
        Err(Error::Cleanup(errors))
    }
}

fn uninstall(host: &mut impl Host, family: Family, errors: &mut Vec<Error>) {
    // Empty chains redirect nothing, whatever may fail afterwards. They must also exist for the
    // jumps to be asked for.
    if let Err(error) = family.restore(rules::emptied()).run(host) {
        errors.push(error);
        return;
    }
    for jump in &JUMPS {
        errors.extend(withdraw(host, family, jump).err());
    }
    errors.extend(family.restore(rules::deleted()).run(host).err());
}

/// Takes a jump away, as often as it is there: two that ran at the same time may have added two.
fn withdraw(host: &mut impl Host, family: Family, jump: &rules::Jump) -> Result<(), Error> {
    while family.iptables(jump.check).ask(host, &[0, 1])? == 0 {
        family.iptables(jump.delete).run(host)?;
    }
    Ok(())
}
