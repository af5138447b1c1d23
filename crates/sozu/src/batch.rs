//! Many requests at once.

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::{Error, Request, Response, Sozu};

impl Sozu {
    /// Sends many requests, over as many connections at once as the pool has, and gives the outcome
    /// of each, in the order of the requests.
    ///
    /// They are independent: none waits for one before it, and none is held back because another
    /// failed. What must happen in order belongs into batches of their own. Each has a deadline of
    /// its own, from when it is its turn.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it gives up what is under way, and sends nothing more.
    ///
    /// ```no_run
    /// # async fn f(sozu: kakehi_sozu::Sozu) {
    /// use kakehi_sozu::command::request::RequestType;
    ///
    /// let names = ["blue", "green"];
    /// let removals = names.map(|name| RequestType::RemoveCluster(name.into()));
    /// let results = sozu.batch(removals).await;
    /// for (name, result) in names.iter().zip(results) {
    ///     if let Err(error) = result {
    ///         eprintln!("{name}: {error}, outcome {}", error.outcome());
    ///     }
    /// }
    /// # }
    /// ```
    pub fn batch<I>(&self, requests: I) -> BoxFuture<'static, Vec<Result<Response, Error>>>
    where
        I: IntoIterator<Item: Into<Request>>,
    {
        // Taken now and boxed: a future with a caller's closure in it is not `Send` for every
        // lifetime, as a web server's handler must be.
        let requests: Vec<_> = requests.into_iter().map(|request| self.request(request)).collect();
        let answers = stream::iter(requests.into_iter().enumerate())
            .map(async |(place, request)| (place, request.await));
        // In the order in which they come, so that no connection idles behind a slow answer.
        let answers = answers.buffer_unordered(self.pool_size().max(1)).collect::<Vec<_>>();
        let in_order = |mut answers: Vec<(usize, _)>| {
            answers.sort_unstable_by_key(|(place, _)| *place);
            answers.into_iter().map(|(_, answer)| answer).collect()
        };
        answers.map(in_order).boxed()
    }
}
