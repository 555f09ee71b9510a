//! One lab for all cases of a file, one case at a time: starting it takes longer than most of them.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use sidewall_host_tests::lab::{Lab, LabConfig};

/// A lab that starts when it is first asked for. The sandbox takes it down in the end.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Option<Lab>>);

impl Shared {
    /// None yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Runs a case in the lab, alone.
    ///
    /// # Errors
    ///
    /// Those of the case, and when the lab does not start.
    pub fn with(
        &self,
        config: impl FnOnce() -> LabConfig,
        case: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<()> {
        // A case that panicked has failed; the next one sets its policies itself.
        let mut lab = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *lab {
            Some(lab) => case(lab),
            none => case(none.insert(Lab::start(config())?)),
        }
    }
}
