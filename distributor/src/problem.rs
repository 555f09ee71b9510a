//! What is wrong with the objects we were given, as data: logged, counted and shown on `/status`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing an operator should mend. It never stops the objects around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The object, such as `NetworkPolicy default/db`, or the file if no object could be read.
    pub object: String,
    /// The field, such as `spec.ingress[0].from[1].ipBlock.cidr`; empty when the whole object is meant.
    pub field: String,
    /// Why it was refused.
    pub reason: String,
    /// What enforcement makes of it until it is mended.
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.reason, self.consequence)
    }
}
