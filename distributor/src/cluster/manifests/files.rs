//! Finds and reads the manifest files of a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How deep folders in folders are followed: deep enough for people, and an end for links that
/// lead back to where they are.
const MAX_DEPTH: usize = 8;

/// The largest file that is read. A larger one is no manifest but a mistake.
const MAX_LENGTH: u64 = 512 << 20;

/// Every manifest file by its path within the folder, with its contents or why there are none.
pub(super) type Files = BTreeMap<PathBuf, io::Result<String>>;

/// Reads every manifest file of a folder, and of folders in it.
///
/// # Errors
/// The folder itself, or one in it, cannot be listed: then nothing can be said of what is gone.
pub(super) fn read(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    list(folder, Path::new(""), 0, &mut files)?;
    Ok(files)
}

fn list(root: &Path, within: &Path, depth: usize, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(root.join(within))? {
        let name = entry?.file_name();
        let Some(text) = name.to_str() else {
            continue;
        };
        if text.starts_with('.') {
            continue;
        }
        let path = within.join(&name);
        // Follows links: in a mounted ConfigMap every file is one.
        match fs::metadata(root.join(&path)) {
            Ok(found) if found.is_dir() && depth < MAX_DEPTH => {
                match list(root, &path, depth + 1, files) {
                    // It went away between two looks.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
            Ok(found) if found.is_file() && is_manifest(&path) => {
                let contents = contents(&root.join(&path), found.len());
                if !is_gone(&contents) {
                    files.insert(path, contents);
                }
            }
            Ok(_) => {}
            // A link that leads nowhere, or a file that has just gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_manifest(&path) => {
                files.insert(path, Err(error));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    match path.extension() {
        None => true,
        Some(extension) => ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known)),
    }
}

fn contents(path: &Path, length: u64) -> io::Result<String> {
    if length > MAX_LENGTH {
        let reason = format!("{length} bytes are more than the {MAX_LENGTH} that are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let bytes = fs::read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let reason = format!("not UTF-8 after byte {}", error.utf8_error().valid_up_to());
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

fn is_gone(contents: &io::Result<String>) -> bool {
    matches!(contents, Err(error) if error.kind() == io::ErrorKind::NotFound)
}
