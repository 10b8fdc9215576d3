//! PEM files: certificates and private keys as they are on the disk.
//!
//! Never here: what is in them quoted, not even by an error of the parser, which may repeat a line.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::diagnostics::Fault;

/// A chain of certificates has some KiB, a bundle of every public authority 250.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Permission bits of users who are neither the owner nor in the group.
const WRITABLE_BY_OTHERS: u32 = 0o002;
const READABLE_BY_OTHERS: u32 = 0o004;

/// Every certificate in the file at `path`, which `section` names; never none.
pub(super) fn certificates(
    path: &Path,
    section: &str,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(path, "certificate", section)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(Error::NoItemsFound) => {
            Err(Fault::whole("there is no certificate in this file")
                .with_help("write it in PEM, from -----BEGIN CERTIFICATE----- on"))
        }
        Err(_) => Err(Fault::whole("a certificate in this file is cut off or garbled")
            .with_help("copy the file anew, from the first line to the last")),
    }
}

/// The private key in the file at `path`, which `section` names.
pub(super) fn private_key(path: &Path, section: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    if metadata(path, "private key", section)?.mode() & WRITABLE_BY_OTHERS != 0 {
        let fault = Fault::whole("every user of this machine may write the private key");
        return Err(fault.with_help(format!("chmod 600 {}", path.display())));
    }
    let text = read(path, "private key", section)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        _ if is_encrypted(&text) => Fault::whole("the private key is encrypted")
            .with_help("decrypt it with `openssl pkey`: nobody is there to type its password"),
        Error::NoItemsFound => Fault::whole("there is no private key in this file")
            .with_help("write it in PEM, from -----BEGIN PRIVATE KEY----- on"),
        _ => Fault::whole("the private key in this file is cut off or garbled")
            .with_help("copy the file anew, from the first line to the last"),
    })
}

/// A warning if every user of this machine may read the private key at `path`.
///
/// Not refused: it is how Kubernetes mounts secrets, in a folder that no other user reaches.
pub(super) fn readable_by_all(path: &Path) -> Option<Fault> {
    let mode = fs::metadata(path).ok()?.mode();
    let fault = Fault::whole("every user of this machine may read the private key");
    let is_odd = mode & (READABLE_BY_OTHERS | WRITABLE_BY_OTHERS) == READABLE_BY_OTHERS;
    is_odd.then(|| fault.with_help(format!("chmod 600 {}", path.display())))
}

fn is_encrypted(text: &[u8]) -> bool {
    let has = |words: &[u8]| memchr::memmem::find(text, words).is_some();
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// Asked of the name, not of the open file: opening a pipe would wait for its writer.
fn metadata(path: &Path, what: &str, section: &str) -> Result<Metadata, Fault> {
    fs::metadata(path).map_err(|error| unreadable(&error, what, section))
}

fn read(path: &Path, what: &str, section: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if !metadata(path, what, section)?.is_file() {
        return Err(Fault::whole(format!("the {what} is no regular file")));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(|error| unreadable(&error, what, section))?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error, what, section))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::whole(format!("the file is larger than {FILE_BYTES_MAX} bytes"))
            .with_help("see that it is the right file"));
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error, what: &str, section: &str) -> Fault {
    let help = match error.kind() {
        ErrorKind::NotFound => {
            &format!("see {section} in the configuration: paths are relative to it")
        }
        ErrorKind::PermissionDenied => "let the user that runs keyward read it",
        _ => "see that it is a plain file that can be read",
    };
    Fault::whole(format!("the {what} cannot be read: {error}")).with_help(help)
}
