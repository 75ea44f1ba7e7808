//! Packages: unpacked once a machine, whoever needs them, and known by what is in them.
//!
//! In: where a package is, and its SHA-256. Out: the folder that it is unpacked in, once that holds what the hash says.
//! Most of a task's start-up in Borg is this (EuroSys '15, §3.2), so which packages a machine has is told to the
//! master, whose placement prefers machines that have them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use cell::container::PackageSpec;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;

/// The packages of a machine.
#[derive(Debug)]
pub(crate) struct Packages {
    folder: PathBuf,
    /// One at a time for each hash: whoever comes second finds it there.
    busy: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// What placement knows them by.
    names: watch::Sender<std::collections::BTreeSet<String>>,
}

impl Packages {
    /// Those that are in a folder. What was left half unpacked goes.
    pub(crate) fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let mut names = std::collections::BTreeSet::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains('.') {
                crate::folder::remove(&entry.path())?;
                continue;
            }
            // Beside the files is the name that it was asked for by.
            if let Ok(known) = fs::read_to_string(entry.path().join(NAME_FILE)) {
                names.insert(known);
            }
        }
        let (names, _) = watch::channel(names);
        Ok(Self { folder, busy: Mutex::default(), names })
    }

    /// Changes with what is there.
    pub(crate) fn names(&self) -> watch::Receiver<std::collections::BTreeSet<String>> {
        self.names.subscribe()
    }

    /// The folder of a package's files, which is unpacked now if it is not there yet.
    ///
    /// # Errors
    /// If it is not to be had, or is not what the hash says.
    pub(crate) async fn fetch(&self, name: &str, package: &PackageSpec) -> anyhow::Result<PathBuf> {
        let hash = package.sha256.to_ascii_lowercase();
        let own = Arc::clone(self.busy.lock().await.entry(hash.clone()).or_default());
        let _alone = own.lock().await;
        let place = self.folder.join(&hash);
        if !place.exists() {
            let (from, to, known) =
                (PathBuf::from(&package.from), place.clone(), package.name_in_cell(name));
            let words = format!("package {name:?}");
            let kept = known.clone();
            spawn_blocking(move || unpack(&from, &to, &hash, &kept)).await?.context(words)?;
            self.names.send_if_modified(|names| names.insert(known));
        }
        Ok(place.join(FILES))
    }
}

const FILES: &str = "files";
const NAME_FILE: &str = "name";

fn unpack(from: &Path, to: &Path, wanted: &str, known: &str) -> anyhow::Result<()> {
    let found = hash(from)?;
    ensure!(
        found == wanted,
        "{} has the SHA-256 {found}, and not {wanted} as its job says",
        from.display()
    );
    let draft = to.with_extension("draft");
    crate::folder::remove(&draft)?;
    let files = draft.join(FILES);
    fs::create_dir_all(&files).with_context(|| format!("{}", files.display()))?;
    if from.is_dir() {
        copy(from, &files)?;
    } else {
        let file = File::open(from).with_context(|| format!("{}", from.display()))?;
        let mut archive = tar::Archive::new(plain(file)?);
        // Nobody's but root's, and nothing that gives rights: tasks of other users read it.
        archive.set_preserve_ownerships(false);
        archive.set_preserve_permissions(false);
        archive.unpack(&files).with_context(|| format!("{} is no tarball", from.display()))?;
    }
    // The tarball may have changed since it was looked at.
    let after = hash(from)?;
    ensure!(after == wanted, "{} changed while it was unpacked", from.display());
    fs::write(draft.join(NAME_FILE), known)?;
    for folder in [&draft, &files] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    // It is not looked at again once it has its name, also after the machine died.
    let words = || format!("{}", to.display());
    rustix::fs::syncfs(File::open(&draft).with_context(words)?).with_context(words)?;
    fs::rename(&draft, to).with_context(words)?;
    crate::folder::sync_folder(to.parent().unwrap_or(to))
}

/// A tarball without its compression, if it has any.
fn plain(mut file: File) -> anyhow::Result<Box<dyn Read>> {
    let mut magic = [0; 2];
    let count = file.read(&mut magic)?;
    io::Seek::rewind(&mut file)?;
    Ok(match (count, magic) {
        (2, [0x1f, 0x8b]) => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(io::BufReader::new(file)),
    })
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in entries(from)? {
        let (source, target) = (from.join(&entry), to.join(&entry));
        let words = || format!("{}", source.display());
        let kind = fs::symlink_metadata(&source).with_context(words)?;
        if kind.is_dir() {
            fs::create_dir(&target).with_context(words)?;
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target).with_context(words)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(words)?;
            let mode = kind.permissions().mode() & 0o755;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).with_context(words)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let words = || format!("{}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(words)? {
        names.push(entry.with_context(words)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The SHA-256 of a tarball's bytes; or of a folder: of the lines `KIND MODE SIZE PATH`, each followed by the file's
/// bytes or the link's target, in the order of paths. Kinds are `d`, `f` and `l`, modes `x` where the owner may execute
/// the file and `-` elsewhere.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn hash(path: &Path) -> anyhow::Result<String> {
    let mut sum = Sha256::new();
    let words = || format!("{}", path.display());
    if fs::metadata(path).with_context(words)?.is_dir() {
        hash_folder(path, Path::new(""), &mut sum)?;
    } else {
        io::copy(&mut File::open(path).with_context(words)?, &mut Summed(&mut sum))
            .with_context(words)?;
    }
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hash_folder(top: &Path, inside: &Path, sum: &mut Sha256) -> anyhow::Result<()> {
    for entry in entries(&top.join(inside))? {
        let path = inside.join(&entry);
        let full = top.join(&path);
        let words = || format!("{}", full.display());
        let kind = fs::symlink_metadata(&full).with_context(words)?;
        let mut line = |kind: &str, mode: &str, size: u64| {
            sum.update(format!("{kind} {mode} {size} "));
            sum.update(path.as_os_str().as_bytes());
            sum.update("\n");
        };
        if kind.is_dir() {
            line("d", "-", 0);
            hash_folder(top, &path, sum)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).with_context(words)?;
            line("l", "-", target.as_os_str().len() as u64);
            sum.update(target.as_os_str().as_bytes());
        } else if kind.is_file() {
            let mode = if kind.permissions().mode() & 0o100 == 0 { "-" } else { "x" };
            line("f", mode, kind.len());
            io::copy(&mut File::open(&full).with_context(words)?, &mut Summed(sum))
                .with_context(words)?;
        }
    }
    Ok(())
}

struct Summed<'a>(&'a mut Sha256);

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball(folder: &Path) -> PathBuf {
        let path = folder.join("tools.tar.gz");
        let file = File::create(&path).unwrap();
        let mut archive =
            tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o4755);
        header.set_cksum();
        archive.append_data(&mut header, "bin/run", &b"hi"[..]).unwrap();
        archive.into_inner().unwrap().finish().unwrap();
        path
    }

    fn spec(from: &Path, sha256: &str) -> PackageSpec {
        PackageSpec { from: from.to_string_lossy().into_owned(), sha256: sha256.to_owned() }
    }

    fn packages(folder: &Path) -> Packages {
        let place = folder.join("packages");
        fs::create_dir_all(&place).unwrap();
        Packages::open(place).unwrap()
    }

    #[tokio::test]
    async fn a_tarball_is_unpacked_once_and_gives_no_rights() {
        let folder = tempfile::tempdir().unwrap();
        let from = tarball(folder.path());
        let packages = packages(folder.path());
        let spec = spec(&from, &hash(&from).unwrap().to_uppercase());
        let place = packages.fetch("tools", &spec).await.unwrap();
        assert_eq!(fs::read(place.join("bin/run")).unwrap(), b"hi");
        let mode = fs::metadata(place.join("bin/run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7000, 0, "{mode:o}");
        assert_eq!(packages.names().borrow().len(), 1);
        // It is there already: where it came from is not looked at.
        fs::remove_file(&from).unwrap();
        assert_eq!(packages.fetch("tools", &spec).await.unwrap(), place);
        let again = Packages::open(folder.path().join("packages")).unwrap();
        assert_eq!(*again.names().borrow(), *packages.names().borrow());
    }

    #[tokio::test]
    async fn another_hash_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let from = tarball(folder.path());
        let packages = packages(folder.path());
        let error = packages.fetch("tools", &spec(&from, &"0".repeat(64))).await.unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("package \"tools\"") && said.contains("SHA-256"), "{said}");
        assert_eq!(fs::read_dir(folder.path().join("packages")).unwrap().count(), 0);
        let gone = packages.fetch("tools", &spec(Path::new("/nowhere"), &"0".repeat(64))).await;
        assert!(format!("{:#}", gone.unwrap_err()).contains("/nowhere"));
    }

    #[tokio::test]
    async fn a_folder_is_a_package_too_and_each_change_of_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("src");
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::write(from.join("bin/run"), "hi").unwrap();
        std::os::unix::fs::symlink("run", from.join("bin/link")).unwrap();
        let first = hash(&from).unwrap();
        let packages = packages(folder.path());
        let place = packages.fetch("tools", &spec(&from, &first)).await.unwrap();
        assert_eq!(hash(&place).unwrap(), first);
        fs::set_permissions(from.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        let second = hash(&from).unwrap();
        fs::rename(from.join("bin/run"), from.join("bin/walk")).unwrap();
        let third = hash(&from).unwrap();
        assert!(first != second && second != third && first != third);
    }
}
