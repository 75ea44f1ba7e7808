//! What a daemon does not start with, and what it says then.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;

use crate::address::free_address;
use crate::client::{Daemon, Session, connect, job, job_count};

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_it_listens_only_if_that_is_meant() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7100"] {
        let said = Daemon::start(&["--data", data, "--listen", address]).refusal(2);
        assert!(said.contains("nobody is authenticated") && said.contains("--insecure"), "{said}");
        assert!(said.contains(address), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written");

    // One that is free on every address.
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let everywhere = format!("0.0.0.0:{port}");
    let _daemon = Daemon::start(&["--data", data, "--listen", &everywhere, "--insecure"]);
    connect(&format!("127.0.0.1:{port}")).await;
}

#[test]
fn a_configured_address_beyond_loopback_is_refused_too() {
    let config = Config::default();
    for field in ["client", "peer"] {
        let text = TEXT.replace(&format!("{field} = \"127.0.0.1"), &format!("{field} = \"0.0.0.0"));
        let said = config.refusal(&text, 1);
        assert!(said.contains("--insecure"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused_and_its_owner_goes_on() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(folder.path(), &address);
    let mut session = Session::open(&address, "admin").await;
    let said = Daemon::alone(folder.path(), &free_address()).refusal(1);
    let words = format!("{} is in use by another process", folder.path().join("db").display());
    assert!(said.contains(&words), "{said}");
    session.ask(&address, job("web", 1)).await.unwrap();
    assert_eq!(job_count(&address).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_refused() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _daemon = Daemon::alone(&folder.path().join("1"), &address);
    connect(&address).await;
    let said = Daemon::alone(&folder.path().join("2"), &address).refusal(1);
    assert!(said.contains(&format!("cannot listen at {address}")), "{said}");
}

/// A `cell.toml`.
struct Config(TempDir);

impl Default for Config {
    fn default() -> Self {
        Self(TempDir::new().unwrap())
    }
}

impl Config {
    /// What is said of a configuration of this text; it names the file.
    fn refusal(&self, text: impl AsRef<[u8]>, id: u64) -> String {
        let path = self.0.path().join("cell.toml");
        fs::write(&path, text).unwrap();
        self.refusal_at(path.to_str().unwrap(), id)
    }

    fn refusal_at(&self, path: &str, id: u64) -> String {
        let data = self.0.path().join("data");
        let id = id.to_string();
        let arguments = ["--config", path, "--replica", &id, "--data", data.to_str().unwrap()];
        let (code, log) = Daemon::start(&arguments).end();
        assert_eq!(code, Some(2), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.starts_with("borgmaster: "), "{log}");
        assert!(!data.exists(), "nothing is written");
        log
    }
}

const TEXT: &str = r#"[cell]
name = "aa"
admins = ["ada"]
[[replica]]
id = 1
client = "127.0.0.1:7101"
peer = "127.0.0.1:7201"
[settings]
poll_interval_ms = 500
"#;

#[test]
fn bad_configurations_are_refused_by_file_and_field() {
    let config = Config::default();
    let path = config.0.path().join("cell.toml");
    let mut twice = TEXT.to_owned();
    for id in [2, 2] {
        let [client, peer] = [free_address(), free_address()];
        writeln!(twice, "[[replica]]\nid = {id}\nclient = {client:?}\npeer = {peer:?}").unwrap();
    }
    let wrong = [
        (TEXT.replace("poll_interval_ms", "poll"), 1, "line 9: field `settings.poll`: unknown"),
        (TEXT.replace("admins", "admin"), 1, "field `cell.admin`: unknown"),
        (TEXT.replace("id = 1", "id = \"one\""), 1, "field `replica[0].id`: invalid type"),
        (
            TEXT.replace("= 500", "= \"often\""),
            1,
            "field `settings.poll_interval_ms`: invalid type",
        ),
        (TEXT.replace("= 500", "= 5"), 1, "field `settings.poll_interval_ms`: 5 is not in"),
        (TEXT.replace("127.0.0.1:7201", "nowhere"), 1, "field `replica[0].peer`: \"nowhere\""),
        (twice, 1, "field `replica[2].id`: 2 is there twice"),
        (TEXT.to_owned(), 3, "field `replica`: there is none with id 3"),
        (TEXT.replace("[cell]", "[cell"), 1, "line 1: "),
        (String::new(), 1, "missing field `cell`"),
    ];
    for (text, id, words) in wrong {
        let said = config.refusal(text, id);
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let said = config.refusal([0xff, 0xfe, 0x00], 1);
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    let folder = config.0.path().to_str().unwrap();
    for path in [folder, "/nowhere/cell.toml"] {
        let said = config.refusal_at(path, 1);
        assert!(said.contains(&format!("cannot read {path}")), "{said}");
    }
}
