//! Whether a task is well: by HTTP, by TCP, or by a command inside its container.
//!
//! First the check of its start is tried until it passes, then the one of its life, for ever. A task that fails so
//! often in a row as its job allows is condemned.

use std::convert::Infallible;
use std::future::pending;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use borglet_agent::{Input, TaskEvent};
use cell::borglet::{ExitCause, Incarnation};
use cell::container::{HttpProbeSpec, ProbeSpec};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::container::Contained;
use crate::enter;
use crate::machine::{Event, Events, Surroundings};

/// Watches a running task for as long as it is polled.
pub(crate) async fn watch(
    around: Arc<Surroundings>,
    contained: Arc<Contained>,
    events: Events,
) -> Infallible {
    let spec = contained.record.task.container.as_ref().and_then(|it| it.health.clone());
    let Some(spec) = spec else { return pending().await };
    let mut task = Checked { around, contained: Arc::clone(&contained), events, is_healthy: true };
    if let Some(start_up) = &spec.start_up {
        task.say(false);
        if !task.check(start_up, Until::ItPasses).await {
            return task.condemn().await;
        }
        task.say(true);
    }
    match &spec.live {
        None => pending().await,
        Some(live) => {
            task.check(live, Until::ItFails).await;
            task.condemn().await
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    ItPasses,
    ItFails,
}

struct Checked {
    around: Arc<Surroundings>,
    contained: Arc<Contained>,
    events: Events,
    is_healthy: bool,
}

impl Checked {
    fn incarnation(&self) -> Incarnation {
        self.contained.record.task.incarnation
    }

    /// Tries until it passes, or until it has failed too often in a row; whether it passed.
    async fn check(&mut self, probe: &ProbeSpec, until: Until) -> bool {
        let mut failures = 0;
        let every = Duration::from_millis(probe.every_ms.into());
        loop {
            let patience = Duration::from_millis(probe.timeout_ms.into());
            let tried = timeout(patience, self.attempt(probe)).await;
            match tried
                .map_err(|_| anyhow::anyhow!("no answer within {patience:?}"))
                .and_then(|it| it)
            {
                Ok(()) => {
                    failures = 0;
                    if until == Until::ItPasses {
                        return true;
                    }
                    self.say(true);
                }
                Err(why) => {
                    failures += 1;
                    let name = &self.contained.record.task.name;
                    tracing::debug!(task = name, failures, why = format!("{why:#}"), "not healthy");
                    if until == Until::ItFails {
                        self.say(false);
                    }
                    if failures >= probe.failures_max {
                        return false;
                    }
                }
            }
            sleep(every).await;
        }
    }

    async fn attempt(&self, probe: &ProbeSpec) -> anyhow::Result<()> {
        match (&probe.http, &probe.tcp) {
            (Some(http), _) => self.http(http).await,
            (None, Some(port)) => self.connect(port).await.map(drop),
            (None, None) => self.command(&probe.command).await,
        }
    }

    async fn connect(&self, port: &str) -> anyhow::Result<TcpStream> {
        let number = self.contained.record.given.ports.get(port).context("it has no such port")?;
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, *number)).await?)
    }

    async fn http(&self, probe: &HttpProbeSpec) -> anyhow::Result<()> {
        let stream = TokioIo::new(self.connect(&probe.port).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let request = Request::get(&probe.path)
            .header("host", "localhost")
            .header("user-agent", "borglet")
            .body(Empty::<Bytes>::new())?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            match answer.status().as_u16() {
                200..=399 => Ok(()),
                status => bail!("status {status}"),
            }
        };
        tokio::select! {
            answer = answer => answer,
            ended = connection => { ended?; bail!("it hung up") }
        }
    }

    async fn command(&self, words: &[String]) -> anyhow::Result<()> {
        let mut command = enter::command(&self.around, &self.contained, words).await?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = enter::Child::spawn(command)?;
        match child.wait().await?.code() {
            Some(0) => Ok(()),
            code => bail!("exit code {code:?}"),
        }
    }

    fn say(&mut self, healthy: bool) {
        if self.is_healthy != healthy {
            self.is_healthy = healthy;
            let event = TaskEvent::Health { healthy };
            let _ = self.events.send(Event::Agent(Input::Task(self.incarnation(), event)));
        }
    }

    async fn condemn(&self) -> Infallible {
        let name = &self.contained.record.task.name;
        tracing::info!(task = name, "its health check failed too often");
        let _ = self.events.send(Event::Condemned(self.incarnation(), ExitCause::Unhealthy));
        pending().await
    }
}
