//! Batches of requests.

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::{Error, Request, Response, Sozu};

impl Sozu {
    /// Sends requests concurrently over the connections of the pool, and returns their results in
    /// the order of the requests.
    ///
    /// The requests are independent: they can run in any order, and a failure does not stop the
    /// others. Use several batches for requests that depend on each other. The deadline of each
    /// request starts when the request has a connection.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the requests in progress and does not send the rest.
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
        // Unordered, so that no connection idles behind a slow response.
        let answers = answers.buffer_unordered(self.pool_size().max(1)).collect::<Vec<_>>();
        let in_order = |mut answers: Vec<(usize, _)>| {
            answers.sort_unstable_by_key(|(place, _)| *place);
            answers.into_iter().map(|(_, answer)| answer).collect()
        };
        answers.map(in_order).boxed()
    }
}
