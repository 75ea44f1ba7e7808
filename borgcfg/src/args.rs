//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use proto::status::Consistency;

use crate::client::Config;
use crate::command::{
    capabilities, change, completions, dev, events, exec, file, fits, logs, machines, quota,
    replicas, settings, status, top, why,
};
use crate::failure::Failure;

/// Where a master listens that is not told otherwise.
const USUAL_CELL: &str = "127.0.0.1:7100";

/// Asks a live cell, and changes it.
///
/// Any replica of the cell's master may be named: it finds the leader. With --json every answer is JSON on
/// standard output: times are milliseconds since 1970, and resources have their unit in their name.
///
/// Exit codes: 0 done, 1 the cell refuses or does not answer, 2 bad input.
///
/// Example: borgcfg submit examples/master/hello.yaml --wait
#[derive(Debug, Parser)]
#[command(name = "borgcfg", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "For every command")]
pub(crate) struct Options {
    /// Replicas of the master; the first that answers will do [default: those of `borgcfg dev up`, or 127.0.0.1:7100]
    #[arg(
        long,
        global = true,
        env = "BORGCFG_CELL",
        hide_env_values = true,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        value_parser = address
    )]
    cell: Option<Vec<String>>,
    /// Who you are; until there is authentication the cell believes it
    #[arg(long, global = true, env = "USER", hide_env_values = true, value_name = "NAME")]
    user: Option<String>,
    /// How long an answer may take, such as 500ms or 2m
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration
    )]
    timeout: Duration,
    /// Let a replica answer as it knows the cell, at once, without asking whether it is up to date
    #[arg(long, global = true)]
    stale: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit the jobs and alloc sets of a file
    ///
    /// Example: borgcfg submit examples/master/hello.yaml --wait
    Submit(change::SubmitArgs),
    /// Show the cell and its jobs, or a job and its tasks
    ///
    /// Example: borgcfg status hello
    ///
    /// Example: borgcfg status --phase pending
    Status(status::StatusArgs),
    /// Give jobs other specs, task by task, or go back to the one before
    ///
    /// Example: borgcfg status hello --spec > hello.yaml; edit it; borgcfg update hello.yaml
    ///
    /// Example: borgcfg update --undo hello
    Update(change::UpdateArgs),
    /// End jobs, or some of their tasks
    ///
    /// Example: borgcfg kill hello
    ///
    /// Example: borgcfg kill web/3 web/4
    Kill(change::KillArgs),
    /// Say why a task is where it is, or has no place, and what would place it
    ///
    /// Example: borgcfg why hello/0
    Why(why::WhyArgs),
    /// Say how many more tasks of a job would fit
    ///
    /// Example: borgcfg fits hello
    ///
    /// Example: borgcfg fits examples/master/hello.yaml
    Fits(fits::FitsArgs),
    /// List machines; add them, take them out of service and back
    ///
    /// Example: borgcfg machines
    ///
    /// Example: borgcfg machines drain m-3
    Machines(machines::MachinesArgs),
    /// List quota, granted and used; grant it
    ///
    /// Example: borgcfg quota set ann production --cpu 100 --ram 400GiB
    Quota(quota::QuotaArgs),
    /// Give a user exactly these capabilities, or none
    ///
    /// Example: borgcfg capabilities ann machines quota
    Capabilities(capabilities::CapabilitiesArgs),
    /// Show the settings of the cell, or change some
    ///
    /// Example: borgcfg settings poll_interval_ms=500
    Settings(settings::SettingsArgs),
    /// Tell what happened, and what happens
    ///
    /// Example: borgcfg events --follow
    Events(events::EventsArgs),
    /// Print what a task wrote
    ///
    /// Example: borgcfg logs hello/0 --follow
    Logs(logs::LogsArgs),
    /// Run a command inside a running task
    ///
    /// Example: borgcfg exec hello/0 -- sh -c 'ls -la; env'
    Exec(exec::ExecArgs),
    /// Show what tasks and machines use, beside limits and reservations; on a terminal again and again
    ///
    /// Example: borgcfg top --job hello
    Top(top::TopArgs),
    /// A local cell on this machine: start one, stop it
    ///
    /// Example: borgcfg dev up
    Dev(dev::DevArgs),
    /// Write the cell to a file, which `restore` and `fauxmaster load` read
    ///
    /// Example: borgcfg checkpoint --out today.cell; fauxmaster load today.cell why hello/0
    Checkpoint(file::CheckpointArgs),
    /// Put the state of a file in place of all that the cell holds
    ///
    /// Machines stay. A task that still runs where the file has it goes on; the others of the file are pending.
    ///
    /// Example: borgcfg restore today.cell --yes
    Restore(file::RestoreArgs),
    /// List the replicas of the master; add and remove them
    ///
    /// Example: borgcfg replicas add 4 127.0.0.1:7204 --client 127.0.0.1:7104
    Replicas(replicas::ReplicasArgs),
    /// Print completions for a shell
    ///
    /// Example: source <(borgcfg completions bash)
    Completions(completions::CompletionsArgs),
}

impl Options {
    /// Whom a client asks, and how.
    pub(crate) fn config(&self) -> Config {
        let consistency = if self.stale { Consistency::Stale } else { Consistency::Linearizable };
        // One that is named twice is not asked twice.
        let mut cell: Vec<String> = Vec::new();
        let said = self.cell.clone().or_else(dev::masters);
        for address in said.unwrap_or_else(|| vec![USUAL_CELL.to_owned()]) {
            if !cell.contains(&address) {
                cell.push(address);
            }
        }
        Config { cell, consistency, timeout: self.timeout }
    }

    /// Who changes the cell.
    pub(crate) fn user(&self) -> Result<&str, Failure> {
        let user = self.user.as_deref().filter(|user| !user.is_empty()).ok_or_else(|| {
            let problem =
                "who are you? $USER is not set: say --user NAME (a new cell knows `admin`)";
            Failure::BadInput(problem.to_owned())
        })?;
        cell::spec::check_name("--user", user)
            .map_err(|error| Failure::BadInput(error.to_string()))?;
        Ok(user)
    }
}

/// `HOST:PORT`.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse().is_ok_and(|port: u16| port > 0)
            && !text.contains(|c: char| c.is_whitespace() || "/@?#".contains(c))
    });
    if is_address { Ok(text.to_owned()) } else { Err("it has to be HOST:PORT".to_owned()) }
}

/// The name of a user.
pub(crate) fn user(text: &str) -> Result<String, String> {
    cell::spec::check_name("user", text).map_err(|error| error.problem)?;
    Ok(text.to_owned())
}

/// `500ms`, `30s`, `2m`, more than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| "it has to be a duration, such as 500ms, 30s or 2m".to_owned())?;
    match Duration::try_from(parsed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("it has to be more than nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut parts: Vec<&clap::Command> = command.get_subcommands().collect();
        while let Some(part) = parts.pop() {
            if part.get_name() == "help" {
                continue;
            }
            let about = part.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.contains("Example: "), "{}", part.get_name());
            parts.extend(part.get_subcommands());
        }
    }

    #[test]
    fn addresses_and_durations_are_checked() {
        for good in ["127.0.0.1:7100", "[::1]:1", "host.example:65535"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["", "host", ":1", "host:0", "host:65536", "a b:1", "http://a:1"] {
            address(bad).unwrap_err();
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "-1s", "0s", "soon"] {
            duration(bad).unwrap_err();
        }
    }

    #[test]
    fn a_bad_name_is_told_by_its_option() {
        for arguments in [
            &["status", "--owner", ""][..],
            &["quota", "--owner", "a b"],
            &["quota", "set", "", "batch"],
            &["capabilities", "a/b"],
        ] {
            let all = std::iter::once(&"borgcfg").chain(arguments);
            let said = Cli::try_parse_from(all).unwrap_err().to_string();
            assert!(said.contains("--owner") || said.contains("<USER>"), "{said}");
        }
    }

    #[test]
    fn options_may_stand_anywhere() {
        let cli =
            Cli::try_parse_from(["borgcfg", "status", "--cell", "a:1,b:2,a:1", "--user", "x"]);
        let options = cli.unwrap().options;
        assert_eq!(options.config().cell, ["a:1", "b:2"]);
        assert_eq!(options.user().unwrap(), "x");
        Cli::try_parse_from(["borgcfg", "status", "--cell", "nowhere"]).unwrap_err();
    }
}
