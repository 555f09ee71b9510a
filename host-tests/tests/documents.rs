//! The documents say what is there: every row of docs/semantics.md names tests and cases that exist,
//! what the sources cite are rows of it, and links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sidewall_host_tests::cases;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("host-tests lies in the workspace")
        .to_owned()
}

/// Files of the repository with this extension, by path from its root.
fn files(extension: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Neither build output nor what is fetched belongs to the repository.
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root(), extension, &mut paths);
    assert!(!paths.is_empty(), "no {extension} files");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let from_root = path.strip_prefix(root()).expect("inside the repository");
        (from_root.to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// A row of a table of rules.
struct Row {
    name: String,
    in_sidewall: String,
    shown_by: String,
}

/// The rows of sections 1A to 1K.
fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("docs/semantics.md")).expect("the page");
    let mut section = "";
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.get(..2).unwrap_or_default();
        }
        let is_rule = ("1A"..="1K").contains(&section);
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let is_head = line.starts_with("| Row |") || line.starts_with("| Field |");
        if !is_rule || !line.starts_with("| ") || is_head {
            continue;
        }
        let [name, _, in_sidewall, shown_by] = cells.as_slice() else {
            panic!("four cells: {line}");
        };
        rows.push(Row {
            name: (*name).to_owned(),
            in_sidewall: (*in_sidewall).to_owned(),
            shown_by: (*shown_by).to_owned(),
        });
    }
    rows
}

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every test: a function marked as one, or a name in the list of a harness.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in files("rs") {
        let mut is_marked = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" || line.starts_with("#[tokio::test") {
                is_marked = true;
            } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_marked) {
                let end = rest.find('(').unwrap_or(rest.len());
                found.insert(rest[..end].to_owned());
                is_marked = false;
            }
        }
        if path.starts_with("host-tests/tests") {
            let lists = text.split("harness::main").skip(1);
            let lists = lists.filter_map(|rest| rest.split_once("\n}"));
            for (list, _) in lists {
                found.extend(list.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    found
}

/// Every case as a row cites it: `upstream 21`, `extra 7`, and `extra bypass-ipv6` for a file.
fn cases_by_citation() -> BTreeSet<String> {
    let mut citations = BTreeSet::new();
    for (suite, folder) in [("upstream", cases::upstream()), ("extra", cases::extra())] {
        let read = cases::read(&folder).expect("cases");
        let numbers = read.iter().filter_map(|case| case.number);
        citations.extend(numbers.map(|number| format!("{suite} {number}")));
        for (path, _) in files("yaml") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let is_of_suite = root().join(&path).parent() == Some(folder.as_path());
            if is_of_suite && stem.starts_with("bypass-") {
                citations.insert(format!("{suite} {stem}"));
            }
        }
    }
    citations
}

#[test]
fn every_row_is_shown_by_tests_and_cases_that_exist() {
    let tests = tests();
    let cases = cases_by_citation();
    let mut wrong = Vec::new();
    for row in rows() {
        let (by_case, by_test): (Vec<&str>, Vec<&str>) = row
            .shown_by
            .split(", ")
            .partition(|cited| !cited.starts_with('`'));
        let unknown_test = by_test
            .iter()
            .flat_map(|cited| quoted(cited))
            .filter(|name| !tests.contains(*name))
            .map(|name| format!("{}: there is no test {name}", row.name));
        wrong.extend(unknown_test);
        let is_uncovered = row.shown_by == "—" && row.in_sidewall.contains("Not covered");
        let unknown_case = by_case
            .iter()
            .filter(|cited| !is_uncovered && !cases.contains::<str>(cited))
            .map(|cited| format!("{}: {cited:?} is no case", row.name));
        wrong.extend(unknown_case);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows are numbered without gaps, so none has been dropped.
#[test]
fn every_row_of_the_rules_is_there() {
    let found: Vec<String> = rows().into_iter().map(|row| row.name).collect();
    let last = [
        ('A', 22),
        ('B', 10),
        ('C', 7),
        ('D', 9),
        ('E', 19),
        ('F', 9),
        ('G', 16),
        ('H', 16),
        ('I', 14),
        ('J', 6),
    ];
    let wanted = last
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")));
    let lettered: Vec<String> = found
        .iter()
        .filter(|name| name.starts_with(|it: char| it.is_ascii_uppercase()))
        .cloned()
        .collect();
    assert_eq!(lettered, wanted.collect::<Vec<_>>());
    assert_eq!(found.len() - lettered.len(), 10, "the fields of 1K");
}

#[test]
fn what_sources_cite_are_rows() {
    let rows: BTreeSet<String> = rows().into_iter().map(|row| row.name).collect();
    // This file does not cite.
    let citation = format!("{}semantics ", '`');
    let mut unknown = Vec::new();
    for (path, text) in files("rs") {
        for cited in text.split(&citation).skip(1) {
            let cited = cited.split('`').next().unwrap_or_default();
            // A section, or the evaluator of 1L.
            if !cited.starts_with('1') && !rows.contains(cited) {
                unknown.push(format!("{}: semantics {cited}", path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn links_of_documents_lead_to_files() {
    let mut broken = Vec::new();
    for (path, text) in files("md") {
        let folder = root().join(&path);
        let folder = folder.parent().expect("a folder");
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            let is_local = !link.is_empty() && !link.contains(':');
            if is_local && !folder.join(link).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
