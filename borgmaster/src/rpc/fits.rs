//! How many more tasks of a job would fit, worked out apart from the replica's thread.

use std::sync::Arc;

use cell::JobKind;
use cell::live::Rejected;
use cell::live::view::Fits;
use proto::explain::FitsQuery;
use proto::reply::Reply;
use tonic::Status;

use super::{Service, busy};

/// The most tasks that are tried; then the answer is "at least so many". Our guess: several seconds of one
/// core and some 50 MB on the cells of Borg's paper. `fauxmaster load FILE fits` tries more.
const COPY_COUNT_MAX: u32 = 100_000;

impl Service {
    pub(super) async fn count_fits(&self, query: FitsQuery) -> Result<Reply<Fits>, Status> {
        let FitsQuery { spec, is_alloc_set, consistency } = query;
        let Ok(permit) = Arc::clone(&self.long).try_acquire_owned() else {
            return Ok(Err(busy()));
        };
        let permit = Arc::new(permit);
        let held = Arc::clone(&permit);
        let kind = if is_alloc_set { JobKind::AllocSet } else { JobKind::Job };
        let question = move |replica: &mut crate::replica::Replica| {
            let _held = held;
            replica.server.core_mut().fits(&spec, kind)
        };
        let (request, policy, seed) = match self.ask(consistency, question).await? {
            Ok(Ok(question)) => question,
            Ok(Err(error)) => return Ok(Ok(Err(Rejected::from(error)))),
            Err(unserved) => return Ok(Err(unserved)),
        };
        let counts = tokio::task::spawn_blocking(move || {
            let counts = request.run(&policy, seed, COPY_COUNT_MAX);
            drop(permit);
            counts
        });
        let counts = counts.await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Ok(Ok(counts.into())))
    }
}
