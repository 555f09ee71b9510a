//! A case, step by step, by anything that can answer what the steps ask.

use super::spec::{Restart, Step};
use super::{Case, Compiled, Error, Question, Unmet, questions};

/// Something that decides by what the distributor compiled, without a distributor.
pub trait Enforcer {
    /// Comes to decide by what is compiled now.
    ///
    /// # Errors
    ///
    /// When it does not get there.
    fn follow(&mut self, compiled: &Compiled) -> Result<(), Error>;

    /// Is ended without notice and started again, and decides by what is compiled. What went wrong on
    /// the way, in words.
    ///
    /// # Errors
    ///
    /// When it does not get there.
    fn restart(&mut self, who: &Restart, compiled: &Compiled) -> Result<Vec<String>, Error>;

    /// Answers: what is not as the case says, in words.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    fn ask(&mut self, compiled: &Compiled, questions: &[Question]) -> Result<Vec<String>, Error>;
}

/// Runs a case: what is not as it says, of every step.
///
/// # Errors
///
/// When the case cannot be run at all.
pub fn run(case: &Case, enforcer: &mut impl Enforcer) -> Result<Vec<Unmet>, Error> {
    let mut compiled = Compiled::new(case)?;
    let mut unmet = Vec::new();
    enforcer.follow(&compiled)?;
    for (number, step) in (1..).zip(&case.steps) {
        let mut found = advance(case, step, &mut compiled, enforcer)?;
        let questions = questions(case, step, compiled.state(), compiled.cluster())?;
        found.extend(enforcer.ask(&compiled, &questions)?);
        unmet.extend(found.into_iter().map(|found| Unmet {
            step: number,
            found,
        }));
    }
    Ok(unmet)
}

fn advance(
    case: &Case,
    step: &Step,
    compiled: &mut Compiled,
    enforcer: &mut impl Enforcer,
) -> Result<Vec<String>, Error> {
    let before = compiled.state().clone();
    let mut after = before.clone();
    after.change(case, step)?;
    for round in 0..step.churn {
        compiled.become_state(after.clone())?;
        enforcer.follow(compiled)?;
        // Every other time nobody gets to see it undone.
        if round % 2 == 0 {
            compiled.become_state(before.clone())?;
            enforcer.follow(compiled)?;
        } else {
            compiled.fold_state(before.clone())?;
        }
    }
    compiled.become_state(after)?;
    enforcer.follow(compiled)?;
    let mut unmet = Vec::new();
    for who in &step.restart {
        if *who == Restart::Distributor {
            let differing = compiled.restart()?.into_iter();
            unmet.extend(differing.map(|who| format!("{who}: another snapshot after a restart")));
        }
        unmet.extend(enforcer.restart(who, compiled)?);
    }
    Ok(unmet)
}
