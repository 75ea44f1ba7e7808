//! What a replica is told at its start: by the command line, and by `cell.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use cell::live::Settings;
use clap::Parser;
use serde::Deserialize;

use crate::identity::Identity;

/// A replica of a cell's master.
#[derive(Debug, Parser)]
#[command(version, about = "Runs a replica of a cell's master")]
pub(crate) struct Args {
    /// The folder that the replica keeps everything in; with --config alone: the one named there
    #[arg(long, required_unless_present = "config")]
    data: Option<PathBuf>,
    /// The cell's configuration, for 1, 3 or 5 replicas
    #[arg(long, requires = "replica", conflicts_with = "join")]
    config: Option<PathBuf>,
    /// Which of the configured replicas this is
    #[arg(long, requires = "config")]
    replica: Option<u64>,
    /// A replica of a running cell, HOST:PORT: this one waits until it is added there
    #[arg(long, requires = "id")]
    join: Option<String>,
    /// The number of the replica that joins
    #[arg(long, requires = "join")]
    id: Option<u64>,
    /// Where to listen, without --config
    #[arg(long, default_value = "127.0.0.1:7100", conflicts_with = "config")]
    listen: SocketAddr,
    /// Schedulers that plan at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    schedulers: u32,
    /// Listen beyond this machine, although nobody is authenticated
    #[arg(long)]
    insecure: bool,
}

/// Where a replica listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// For clients, HOST:PORT.
    pub client: String,
    /// For the other replicas, HOST:PORT.
    pub peer: String,
}

impl Place {
    /// As the log has it.
    pub(crate) fn to_text(&self) -> String {
        format!("{} {}", self.peer, self.client)
    }

    /// From what the log has.
    pub(crate) fn from_text(text: &str) -> Self {
        let (peer, client) = text.split_once(' ').unwrap_or((text, text));
        Self { client: client.to_owned(), peer: peer.to_owned() }
    }
}

/// What a replica is to be.
#[derive(Debug)]
pub(crate) struct Config {
    /// Its number.
    pub id: u64,
    /// Its folder.
    pub data: PathBuf,
    /// The replicas that the cell begins with; none: this one joins.
    pub replicas: BTreeMap<u64, Place>,
    /// Where this one listens.
    pub place: Place,
    /// Where to ask about the cell that it joins.
    pub join: Option<String>,
    /// The settings that a new cell begins with.
    pub settings: Settings,
    /// Schedulers that plan at once.
    pub scheduler_count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data: Option<PathBuf>,
    cell: FileCell,
    replica: Vec<FileReplica>,
    #[serde(default)]
    settings: Settings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCell {
    name: String,
    #[serde(default)]
    admins: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileReplica {
    id: u64,
    client: String,
    peer: String,
}

impl Config {
    /// The configuration that the command line asks for. `user` runs this process.
    ///
    /// # Errors
    /// If it makes no sense.
    pub(crate) fn new(args: Args, user: Option<String>) -> anyhow::Result<Self> {
        let Args { data, config, replica, join, id, listen, schedulers, insecure } = args;
        let config = match (config, replica) {
            (Some(path), Some(replica)) => {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Self::from_file(&text, replica, data.as_deref())
                    .with_context(|| format!("{}", path.display()))?
            }
            (None, None) => {
                let data = data.context("--data is missing")?;
                let address = listen.to_string();
                let place = Place { client: address.clone(), peer: address };
                // One that was started before knows its number and its cell from its folder.
                let kept = Identity::read(&data.join("db"))?;
                let id = id.or(kept.as_ref().map(|kept| kept.id)).unwrap_or(1);
                let replicas = match join {
                    Some(_) => BTreeMap::new(),
                    None => [(id, place.clone())].into(),
                };
                let mut admins = vec!["admin".to_owned()];
                admins.extend(user.filter(|user| user != "admin"));
                let mut settings = Settings { admins, ..Settings::default() };
                if let Some(kept) = kept {
                    settings.cell_name = kept.cell;
                }
                Self { id, data, replicas, place, join, settings, scheduler_count: 1 }
            }
            _ => bail!("--config and --replica go together"),
        };
        ensure!(config.id > 0, "replicas are numbered from 1");
        for address in [&config.place.client, &config.place.peer] {
            let is_loopback = socket_address(address)?.ip().is_loopback();
            ensure!(
                is_loopback || insecure,
                "{address} can be reached from elsewhere, and nobody is authenticated: \
                 use a loopback address, or --insecure if you mean it"
            );
        }
        check_settings(&config.settings)?;
        Ok(Self { scheduler_count: schedulers, ..config })
    }

    fn from_file(text: &str, id: u64, data: Option<&Path>) -> anyhow::Result<Self> {
        let file = read_file(text)?;
        let mut replicas = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for (i, FileReplica { id, client, peer }) in file.replica.into_iter().enumerate() {
            let field = |name: &str| format!("field `replica[{i}].{name}`");
            ensure!(id > 0, "{}: replicas are numbered from 1", field("id"));
            for (name, address) in [("client", &client), ("peer", &peer)] {
                socket_address(address).with_context(|| field(name))?;
                let other = *addresses.entry(address.clone()).or_insert(id);
                ensure!(other == id, "{}: {address} is that of replica {other}", field(name));
            }
            let is_new = replicas.insert(id, Place { client, peer }).is_none();
            ensure!(is_new, "{}: {id} is there twice", field("id"));
        }
        let count = replicas.len();
        ensure!([1, 3, 5].contains(&count), "field `replica`: {count} of them, and not 1, 3 or 5");
        let place = replicas.get(&id).cloned();
        let place =
            place.with_context(|| format!("field `replica`: there is none with id {id}"))?;
        let data = match (data, file.data) {
            (Some(data), _) => data.to_owned(),
            (None, Some(data)) => data.join(format!("replica-{id}")),
            (None, None) => bail!("field `data`: is missing, and so is --data"),
        };
        let FileCell { name, admins } = file.cell;
        let settings = Settings { cell_name: name, admins, ..file.settings };
        check_settings(&settings)?;
        Ok(Self { id, data, replicas, place, join: None, settings, scheduler_count: 1 })
    }
}

fn socket_address(text: &str) -> anyhow::Result<SocketAddr> {
    text.parse().map_err(|_| anyhow::anyhow!("{text:?} is not an address IP:PORT"))
}

fn check_settings(settings: &Settings) -> anyhow::Result<()> {
    borgmaster_core::check_settings(settings).map_err(|error| anyhow::anyhow!("{error}"))
}

fn read_file(text: &str) -> anyhow::Result<File> {
    let line_of = |error: &toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        // Some messages are of several lines.
        (line, error.message().replace('\n', ", "))
    };
    let malformed = |error: toml::de::Error| {
        let (line, problem) = line_of(&error);
        anyhow::anyhow!("line {line}: {problem}")
    };
    let document = toml::Deserializer::parse(text).map_err(malformed)?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let field = error.path().to_string();
        let (line, problem) = line_of(error.inner());
        anyhow::anyhow!("line {line}: field `{field}`: {problem}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> anyhow::Result<Config> {
        let line = ["borgmaster"].iter().chain(line);
        Config::new(Args::try_parse_from(line)?, Some("ada".to_owned()))
    }

    const CELL: &str = r#"
        data = "/var/lib/cell"
        [cell]
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
    fn a_folder_is_enough() {
        let config = read(&["--data", "x"]).unwrap();
        assert_eq!(config.place.client, "127.0.0.1:7100");
        assert_eq!(config.settings.admins, ["admin", "ada"]);
    }

    #[test]
    fn beyond_loopback_only_if_it_is_meant() {
        let error = read(&["--data", "x", "--listen", "0.0.0.0:7100"]).unwrap_err();
        assert!(error.to_string().contains("--insecure"), "{error}");
        read(&["--data", "x", "--listen", "0.0.0.0:7100", "--insecure"]).unwrap();
    }

    #[test]
    fn a_file_is_read_and_what_is_wrong_is_named() {
        let config = Config::from_file(CELL, 1, None).unwrap();
        assert_eq!(config.data, Path::new("/var/lib/cell/replica-1"));
        assert_eq!(
            (config.settings.cell_name.as_str(), config.settings.poll_interval_ms),
            ("aa", 500)
        );
        let replica = |id: u64, port: u16| {
            format!(
                "[[replica]]\nid = {id}\nclient = \"127.0.0.1:{port}\"\npeer = \"127.0.0.1:1\"\n"
            )
        };
        let wrong = [
            (
                CELL.replace("poll_interval_ms", "poll_ms"),
                "line 11: field `settings.poll_ms`: unknown",
            ),
            (CELL.replace("= 500", "= 5"), "field `settings.poll_interval_ms`: 5 is not in"),
            (
                CELL.replace("= 500", "= 500\npolicy = \"x\""),
                "field `settings.policy`: \"x\" is no",
            ),
            (
                CELL.replace("\"aa\"", "\"a a\""),
                "field `settings.cell_name`: \"a a\" has white space",
            ),
            (CELL.replace("id = 1", "id = \"one\""), "line 7: field `replica[0].id`: invalid type"),
            (
                CELL.replace("id = 1", "id = 0"),
                "field `replica[0].id`: replicas are numbered from 1",
            ),
            (CELL.replace("id = 1", "id = 2"), "field `replica`: there is none with id 1"),
            (CELL.replace("127.0.0.1:7201", "here"), "field `replica[0].peer`: \"here\" is not"),
            (
                CELL.replace("client", "clients"),
                "line 8: field `replica[0].clients`: unknown field",
            ),
            (CELL.replace("name = \"aa\"", ""), "field `cell`: missing field `name`"),
            (CELL.replace("data =", "# data ="), "field `data`: is missing"),
            (CELL.replace("[cell]", "[cell"), "line 3: "),
            (format!("{CELL}{}", replica(1, 7301)), "field `replica[1].id`: 1 is there twice"),
            (format!("{CELL}{}", replica(2, 7101)), "127.0.0.1:7101 is that of replica 1"),
            (format!("{CELL}{}", replica(2, 7301)), "field `replica`: 2 of them"),
        ];
        for (text, part) in wrong {
            let error = format!("{:#}", Config::from_file(&text, 1, None).unwrap_err());
            assert!(error.contains(part), "{error:?} does not say {part:?}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn places_survive_the_log() {
        let place = Place { client: "a:1".to_owned(), peer: "b:2".to_owned() };
        assert_eq!(Place::from_text(&place.to_text()), place);
    }
}
