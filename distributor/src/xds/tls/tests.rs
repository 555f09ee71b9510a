use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A pair that belongs together, in PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["sidewall.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A folder as the kubelet mounts a Secret: the files are links into a folder that is swapped.
struct Secret {
    folder: TempDir,
    version: u32,
}

impl Secret {
    fn new((certificate, key): &(String, String)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
        }
        let mut secret = Self { folder, version: 0 };
        secret.swap(certificate, key);
        secret
    }

    fn swap(&mut self, certificate: &str, key: &str) {
        self.version += 1;
        let version = format!("..{}", self.version);
        let new = self.folder.path().join(&version);
        fs::create_dir(&new).unwrap();
        fs::write(new.join("tls.crt"), certificate).unwrap();
        fs::write(new.join("tls.key"), key).unwrap();
        let link = self.folder.path().join("..data_tmp");
        symlink(version, &link).unwrap();
        fs::rename(link, self.folder.path().join("..data")).unwrap();
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.folder.path().join("tls.crt"),
            key: self.folder.path().join("tls.key"),
            client_ca: None,
        }
    }
}

#[test]
fn the_same_files_are_the_same_configuration() {
    let secret = Secret::new(&pair());
    let tls = Tls::new(secret.files()).unwrap();
    assert!(Arc::ptr_eq(&tls.current(), &tls.current()));
}

#[test]
fn a_swapped_secret_is_used_from_the_next_connection_on() {
    let mut secret = Secret::new(&pair());
    let tls = Tls::new(secret.files()).unwrap();
    let before = tls.current();
    let (certificate, key) = pair();
    secret.swap(&certificate, &key);
    let after = tls.current();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&after, &tls.current()));
}

#[test]
fn what_does_not_fit_together_is_not_used() {
    let mut secret = Secret::new(&pair());
    let tls = Tls::new(secret.files()).unwrap();
    let before = tls.current();
    let ((certificate, key), (_, other)) = (pair(), pair());
    for (certificate, key) in [(&certificate, &other), (&certificate, &String::new())] {
        secret.swap(certificate, key);
        assert!(Arc::ptr_eq(&before, &tls.current()));
    }
    fs::remove_file(secret.folder.path().join("..data")).unwrap();
    assert!(Arc::ptr_eq(&before, &tls.current()));
    secret.swap(&certificate, &key);
    assert!(!Arc::ptr_eq(&before, &tls.current()));
}

#[test]
fn a_bad_file_is_named_with_what_it_should_hold() {
    let (certificate, key) = pair();
    let says = |certificate: &str, key: &str, client_ca: Option<&str>| {
        let secret = Secret::new(&(certificate.to_owned(), key.to_owned()));
        let mut files = secret.files();
        if let Some(text) = client_ca {
            let path = secret.folder.path().join("ca.crt");
            fs::write(&path, text).unwrap();
            files.client_ca = Some(path);
        }
        Tls::new(files).unwrap_err().to_string()
    };
    let refusal = says("", &key, None);
    assert!(
        refusal.contains("tls.crt: holds no certificate in PEM"),
        "{refusal}"
    );
    let refusal = says(&certificate, &certificate, None);
    assert!(
        refusal.contains("tls.key: holds no private key in PEM"),
        "{refusal}"
    );
    let refusal = says(&certificate, &pair().1, None);
    assert!(refusal.contains("cannot be used together"), "{refusal}");
    let refusal = says(&certificate, &key, Some(&key));
    assert!(
        refusal.contains("ca.crt: holds no certificate in PEM"),
        "{refusal}"
    );
    let secret = Secret::new(&(certificate, key));
    let mut files = secret.files();
    files.key = secret.folder.path().join("missing.key");
    let refusal = Tls::new(files).unwrap_err().to_string();
    assert!(refusal.contains("missing.key: cannot be read"), "{refusal}");
}
