//! Tells the program which commit of the code it was built from, for the manifest of a report.
//!
//! `COMMIT` is the full hash, with `-dirty` behind it where a crate that decides the results, or the
//! lock file, differs from that commit; `unknown` outside a git checkout.

use std::path::Path;
use std::process::Command;

/// What the results depend on, seen from this crate's folder. Not the whole of this crate: it also
/// holds figures of a run, which change with the results and do not decide them.
const CODE: [&str; 10] = [
    "../cell",
    "../scheduler",
    "../traces",
    "../fauxmaster",
    "../Cargo.toml",
    "../Cargo.lock",
    "build.rs",
    "Cargo.toml",
    "src",
    "templates",
];

fn main() {
    println!("cargo::rustc-env=COMMIT={}", commit().unwrap_or_else(|| "unknown".to_owned()));
    for path in CODE.into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    // A commit changes neither sources nor HEAD, but always the log of HEAD.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn commit() -> Option<String> {
    let head = git(&["rev-parse", "HEAD"])?;
    let present = CODE.into_iter().filter(|path| Path::new(path).exists());
    let mut arguments = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    arguments.extend(present);
    let changes = git(&arguments)?;
    Some(if changes.is_empty() { head } else { format!("{head}-dirty") })
}

/// What git prints, trimmed; `None` where there is no git, no checkout, or an error.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
