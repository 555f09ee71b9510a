//! Who reaches whom, as a table.

use std::collections::BTreeMap;
use std::fmt;

use super::result::ProbeResult;

/// Results by source and target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: BTreeMap<(String, String), Vec<ProbeResult>>,
}

impl Matrix {
    /// Puts results in order: sources and targets as they first appear.
    #[must_use]
    pub fn new(results: Vec<ProbeResult>) -> Self {
        let mut matrix = Self::default();
        for result in results {
            for (names, name) in [
                (&mut matrix.rows, &result.from),
                (&mut matrix.columns, &result.to),
            ] {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
            let cell = matrix.cells.entry((result.from.clone(), result.to.clone()));
            cell.or_default().push(result);
        }
        matrix
    }

    /// Whether one reaches the other, over every family and port that was probed; `None` when
    /// they disagree or nothing was probed.
    #[must_use]
    pub fn reaches(&self, from: &str, to: &str) -> Option<bool> {
        let cell = self.cells.get(&(from.to_owned(), to.to_owned()))?;
        let answered = cell.iter().filter(|result| result.answered).count();
        if answered == cell.len() {
            Some(true)
        } else if answered == 0 {
            Some(false)
        } else {
            None
        }
    }

    /// Every result, by source and target.
    pub fn results(&self) -> impl Iterator<Item = &ProbeResult> {
        self.cells.values().flatten()
    }
}

/// A row for each source, a column for each target: `yes`, `-` for no, `?` when families disagree.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let corner = "from \\ to";
        let first = self
            .rows
            .iter()
            .map(String::len)
            .chain([corner.len()])
            .max()
            .unwrap_or_default();
        write!(f, "{corner:first$}")?;
        for column in &self.columns {
            write!(f, "  {column}")?;
        }
        for row in &self.rows {
            write!(f, "\n{row:first$}")?;
            for column in &self.columns {
                let mark = match self.reaches(row, column) {
                    Some(true) => "yes",
                    Some(false) => "-",
                    None if self.cells.contains_key(&(row.clone(), column.clone())) => "?",
                    None => "",
                };
                write!(f, "  {mark:width$}", width = column.len())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::*;
    use crate::probe::Protocol;

    fn result(from: &str, to: &str, family: Family, answered: bool) -> ProbeResult {
        ProbeResult {
            from: from.to_owned(),
            to: to.to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            family,
            connected: true,
            answered,
            expected: None,
            ok: None,
            error: None,
            took_ms: 1.0,
        }
    }

    #[test]
    fn a_cell_says_yes_only_when_every_family_does() {
        let matrix = Matrix::new(vec![
            result("a/x", "a/yy", Family::IPv4, true),
            result("a/x", "a/yy", Family::IPv6, true),
            result("a/x", "a/x", Family::IPv4, false),
            result("a/yy", "a/x", Family::IPv4, true),
            result("a/yy", "a/x", Family::IPv6, false),
        ]);
        let lines: Vec<String> = matrix
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "from \\ to  a/yy  a/x",
                "a/x        yes   -",
                "a/yy             ?"
            ]
        );
        assert_eq!(matrix.reaches("a/x", "a/yy"), Some(true));
        assert_eq!(matrix.reaches("a/yy", "a/x"), None);
        assert_eq!(matrix.reaches("a/yy", "a/yy"), None);
    }
}
