//! The stream of events.

use std::sync::Arc;

use proto::event::{Events, Told, Watch};
use proto::reply::Unserved;
use proto::wire;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Service, Streamed, busy};

/// So many events go into one reply.
const COUNT_MAX: usize = 500;

/// What is found at once: replies, and where to go on.
struct Found {
    replies: Vec<Events>,
    next_index: u64,
    is_all: bool,
}

impl Service {
    pub(super) async fn watch(&self, watch: Watch) -> Result<Streamed<wire::EventsReply>, Status> {
        let Watch { from_index, follow } = watch;
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            return Err(busy().into());
        };
        let place = Arc::new(place);
        let held = Arc::clone(&place);
        let news = self.peek(move |replica| {
            let _place = held;
            replica.events.watch()
        });
        let mut news = news.await?;
        // Whether the log reaches back so far is said at once.
        let mut found = self.find(from_index, &place).await?.map_err(Status::from)?;
        let (sender, receiver) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            loop {
                for reply in found.replies {
                    let reply = wire::EventsReply::try_from(reply)
                        .map_err(|error| Status::internal(error.to_string()));
                    if sender.send(reply).await.is_err() {
                        return;
                    }
                }
                let next = found.next_index;
                if found.is_all {
                    if !follow {
                        return;
                    }
                    tokio::select! {
                        news = news.changed() => if news.is_err() { return },
                        () = sender.closed() => return,
                    }
                }
                found = match service.find(next, &place).await {
                    Ok(Ok(found)) => found,
                    Ok(Err(unserved)) => return drop(sender.send(Err(unserved.into())).await),
                    Err(status) => return drop(sender.send(Err(status)).await),
                };
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    /// The stream's place goes with the question, as long as that is in the queue.
    async fn find(
        &self,
        from_index: u64,
        place: &Arc<OwnedSemaphorePermit>,
    ) -> Result<Result<Found, Unserved>, Status> {
        let place = Arc::clone(place);
        self.peek(move |replica| {
            let _place = place;
            let newest_index = replica.server.state().index();
            let oldest_index = replica.events.oldest();
            let from = if from_index == 0 { oldest_index } else { from_index };
            if from < oldest_index || from > newest_index + 1 {
                return Err(Unserved::NotInLog { oldest_index, newest_index });
            }
            let events = replica.events.since(from, COUNT_MAX);
            let is_all = events.len() < COUNT_MAX;
            let last = events.last().map(|event| event.index);
            let next_index =
                if is_all { newest_index + 1 } else { last.unwrap_or(newest_index) + 1 };
            let state = replica.server.state();
            let mut told = events.into_iter().map(|event| Told::new(state, event)).peekable();
            let mut replies = Vec::new();
            while told.peek().is_some() {
                let events: Vec<Told> = told.by_ref().take(COUNT_MAX).collect();
                // Whoever breaks off within an entry is told all of it again.
                let within = told.peek().map(|it| it.event.index);
                replies.push(Events { events, next_index: within.unwrap_or(next_index) });
            }
            Ok(Found { replies, next_index, is_all })
        })
        .await
    }
}
