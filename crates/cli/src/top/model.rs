//! The state of the screen: the last answers of the server, and the choices of the user.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    source::Snapshot,
    status::{Request, clean},
};
use crate::{failure::Failure, text, view::Users};

/// How many samples the sparklines keep.
const SAMPLES: usize = 256;
/// How long a message is shown.
const SHOWN: Duration = Duration::from_secs(6);
/// The longest filter, in characters.
const LONGEST_FILTER: usize = 64;

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Arrival,
    User,
    Job,
    Progress,
    Left,
}

/// The mode of the screen. It decides what the keys do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Rows,
    Help,
    /// The user types a filter.
    Filter,
    /// The user confirms the cancellation of a run. The fields are its id and its description.
    Confirm(String, String),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) is_run: bool,
    /// Of a fleet, the node.
    pub(super) user: String,
    pub(super) age: Duration,
    pub(super) state: State,
    /// The estimated time until it ends, from earlier runs of the job.
    pub(super) left: Option<Left>,
    pub(super) words: String,
    pub(super) line: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Running,
    /// The part that is done, from 0 to 1.
    Done(f64),
    /// The place in the queue of the job, from 1; `None`: no job.
    Queued(Option<usize>),
    /// A node of a fleet without requests.
    Node(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    About(Duration),
    /// It takes longer than earlier runs.
    Late(Duration),
}

/// Everything that is drawn.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The server and how it is reached.
    pub(super) place: String,
    /// Whether rows have a node instead of a user.
    pub(super) is_fleet: bool,
    snapshot: Option<Snapshot>,
    /// Why there is no newer snapshot, and since when.
    pub(super) lost: Option<(String, Instant)>,
    /// Requests a second, and milliseconds to answer.
    pub(super) rates: VecDeque<f64>,
    pub(super) answers: VecDeque<f64>,
    /// The numbers of the server, each with its change a second.
    pub(super) numbers: Vec<(String, f64, Option<f64>)>,
    pub(super) rows: Vec<Row>,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    /// The id of the selected row.
    selected: Option<String>,
    /// The first row that is shown.
    pub(super) top: usize,
    message: Option<(String, Instant)>,
    users: Users,
}

impl Model {
    pub(super) fn new(place: &str, is_local: bool) -> Self {
        Self { place: clean(place), users: Users::new(is_local), ..Self::default() }
    }

    /// Of a fleet: rows have a node instead of a user.
    #[cfg(feature = "fleet")]
    pub(crate) fn of_fleet(place: &str) -> Self {
        Self { is_fleet: true, ..Self::new(place, false) }
    }

    /// Takes a new state of the server.
    pub(super) fn update(&mut self, snapshot: Snapshot) {
        self.measure(&snapshot);
        self.lost = None;
        self.snapshot = Some(snapshot);
        self.arrange();
    }

    /// The server did not answer.
    pub(super) fn fail(&mut self, failure: &Failure, now: Instant) {
        let since = self.lost.as_ref().map_or(now, |(_, since)| *since);
        self.lost = Some((clean(&format!("{}: {}", failure.what, failure.why)), since));
    }

    pub(super) fn say(&mut self, text: &str, now: Instant) {
        self.message = Some((clean(text), now));
    }

    /// The message that is shown now.
    pub(super) fn message(&self, now: Instant) -> Option<&str> {
        let (text, at) = self.message.as_ref()?;
        (now.duration_since(*at) < SHOWN).then_some(text)
    }

    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    pub(super) fn selected_index(&self) -> Option<usize> {
        let id = self.selected.as_ref()?;
        self.rows.iter().position(|row| row.id == *id)
    }

    pub(super) fn selected(&self) -> Option<&Row> {
        self.rows.get(self.selected_index()?)
    }

    /// Selects the row `by` rows below.
    pub(super) fn select_by(&mut self, by: isize) {
        let last = self.rows.len().saturating_sub(1);
        let index = match self.selected_index() {
            Some(index) => index.saturating_add_signed(by).min(last),
            None => 0,
        };
        self.select(index);
    }

    fn select(&mut self, index: usize) {
        self.selected = self.rows.get(index).map(|row| row.id.clone());
    }

    pub(super) fn type_filter(&mut self, character: char) {
        if self.filter.chars().count() < LONGEST_FILTER {
            self.filter.push(character);
        }
        self.arrange();
    }

    pub(super) fn erase_filter(&mut self, is_all: bool) {
        if is_all {
            self.filter.clear();
        } else {
            self.filter.pop();
        }
        self.arrange();
    }

    pub(super) fn sort_next(&mut self) {
        self.sort = match self.sort {
            Sort::Arrival => Sort::User,
            Sort::User => Sort::Job,
            Sort::Job => Sort::Progress,
            Sort::Progress => Sort::Left,
            Sort::Left => Sort::Arrival,
        };
        self.arrange();
    }

    pub(super) fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
        self.arrange();
    }

    /// Makes the rows anew, and keeps the selection on its row or the one in its place.
    fn arrange(&mut self) {
        let index = self.selected_index().unwrap_or(0);
        let Some(snapshot) = &self.snapshot else { return };
        self.rows = rows(snapshot, &mut self.users);
        let filter = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&filter);
        self.rows.retain(|row| {
            [&row.id, &row.user, &row.words, &row.line].into_iter().any(|text| has(text))
        });
        sort(&mut self.rows, self.sort);
        if self.is_reversed {
            self.rows.reverse();
        }
        if self.selected_index().is_none() {
            self.select(index.min(self.rows.len().saturating_sub(1)));
        }
    }

    /// Adds a sample, and the change of each number.
    fn measure(&mut self, new: &Snapshot) {
        /// The counters of requests that ended.
        const ENDED: [&str; 5] = ["ok", "error", "refused_requests", "cancelled", "panicked"];
        let old = self.snapshot.as_ref();
        let seconds = old.map(|old| new.at.duration_since(old.at).as_secs_f64());
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let before = |name: &str| {
            let mut numbers = old?.status.numbers.iter();
            numbers.find(|(known, _)| known == name).map(|(_, value)| *value)
        };
        // A restarted server counts from 0 again.
        let change = |name: &str, value: f64| Some((value - before(name)?).max(0.0));
        let rate = |name: &str, value: f64| Some(change(name, value)? / seconds?);
        let numbers = new.status.numbers.iter();
        self.numbers =
            numbers.map(|(name, value)| (name.clone(), *value, rate(name, *value))).collect();
        let ended = self.numbers.iter().filter(|(name, ..)| ENDED.contains(&name.as_str()));
        let ended: Vec<f64> = ended.filter_map(|(_, _, rate)| *rate).collect();
        if let Some(seconds) = seconds.filter(|_| !ended.is_empty()) {
            let own = f64::from(new.own) / seconds;
            keep(&mut self.rates, (ended.iter().sum::<f64>() - own).max(0.0));
        }
        keep(&mut self.answers, new.answer_time.as_secs_f64() * 1_000.0);
    }
}

fn keep(samples: &mut VecDeque<f64>, sample: f64) {
    if samples.len() >= SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn rows(snapshot: &Snapshot, users: &mut Users) -> Vec<Row> {
    let requests = &snapshot.status.requests;
    let times = snapshot.times.iter().copied();
    let row = |(request, (elapsed, duration)): (&Request, (Duration, Option<Duration>))| {
        let part = request.steps.map(|(done, total)| (done / total).min(1.0));
        let state = match (request.node_state, request.is_waiting, part) {
            (Some(state), ..) => State::Node(state),
            (None, true, _) => State::Queued(place(request, requests)),
            (None, false, Some(part)) => State::Done(part),
            (None, false, None) => State::Running,
        };
        Row {
            id: request.id.clone(),
            is_run: request.is_run,
            user: user(request, users),
            age: request.age,
            state,
            left: left(request, elapsed, duration, snapshot),
            words: request.words.clone(),
            line: request.line.clone(),
        }
    };
    requests.iter().zip(times).map(row).collect()
}

fn user(request: &Request, users: &mut Users) -> String {
    let name = || request.uid.map(|uid| users.name(uid));
    request
        .node
        .clone()
        .or_else(|| request.caller.clone())
        .or_else(name)
        .unwrap_or_else(|| "-".to_owned())
}

/// The place in the queue of the job.
fn place(request: &Request, all: &[Request]) -> Option<usize> {
    request.job.as_ref()?;
    let queue = all
        .iter()
        .filter(|other| other.is_waiting && other.job == request.job && other.node == request.node);
    Some(queue.take_while(|other| other.id != request.id).count() + 1)
}

/// How long until the end, by the job's earlier runs.
fn left(
    request: &Request,
    elapsed: Duration,
    duration: Option<Duration>,
    snapshot: &Snapshot,
) -> Option<Left> {
    let duration = duration?;
    if !request.is_waiting {
        return Some(match duration.checked_sub(elapsed) {
            Some(left) => Left::About(left),
            None => Left::Late(elapsed.saturating_sub(duration)),
        });
    }
    // The runs ahead end one after the other, as many at once as run now.
    let all = &snapshot.status.requests;
    let of_job = |other: &&Request| other.job == request.job && !other.is_waiting;
    let running = all.iter().zip(&snapshot.times).filter(|(other, _)| of_job(other));
    let lefts: Vec<_> =
        running.map(|(_, (elapsed, _))| duration.saturating_sub(*elapsed)).collect();
    let at_once = lefts.len().max(1);
    let turns = place(request, all)?.saturating_sub(1) / at_once;
    let turns = u32::try_from(turns + 1).unwrap_or(u32::MAX);
    let first = lefts.into_iter().min().unwrap_or_default();
    Some(Left::About(duration.saturating_mul(turns).saturating_add(first)))
}

fn sort(rows: &mut [Row], by: Sort) {
    match by {
        Sort::Arrival => {}
        Sort::User => rows.sort_by(|one, other| one.user.cmp(&other.user)),
        Sort::Job => rows.sort_by(|one, other| one.words.cmp(&other.words)),
        Sort::Progress => rows.sort_by(|one, other| {
            let place = |row: &Row| match row.state {
                State::Queued(place) => place,
                _ => None,
            };
            part(other).total_cmp(&part(one)).then(place(one).cmp(&place(other)))
        }),
        Sort::Left => rows.sort_by_key(|row| match row.left {
            Some(Left::Late(_)) => Duration::ZERO,
            Some(Left::About(left)) => left,
            None => Duration::MAX,
        }),
    }
}

/// The part that is done; queued requests come last.
fn part(row: &Row) -> f64 {
    match row.state {
        State::Done(part) => part,
        State::Running => 0.0,
        State::Queued(_) => -1.0,
        State::Node(_) => -2.0,
    }
}

impl Sort {
    /// The name of the order, of a fleet or of a server.
    pub(super) fn name(self, is_fleet: bool) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::User if is_fleet => "node",
            Self::User => "user",
            Self::Job => "job",
            Self::Progress => "progress",
            Self::Left => "time left",
        }
    }
}

impl Left {
    pub(super) fn text(self) -> String {
        match self {
            Self::About(left) => format!("~{}", text::elapsed(left)),
            Self::Late(by) => format!("+{}", text::elapsed(by)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::status::Status, *};

    pub(crate) fn request(id: &str, job: &str, is_waiting: bool) -> Request {
        Request {
            id: id.into(),
            is_run: true,
            job: Some(job.into()),
            words: format!("run {job}"),
            uid: Some(0),
            age: Duration::from_secs(65),
            is_waiting,
            ..Request::default()
        }
    }

    pub(crate) fn snapshot(requests: Vec<Request>, numbers: &[(&str, f64)]) -> Snapshot {
        let times = requests.iter().map(|request| (request.age, Some(Duration::from_secs(100))));
        let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Snapshot {
            times: times.collect(),
            status: Status {
                server: "kakehid 0.1.0".into(),
                uptime: Some(Duration::from_secs(3_720)),
                requests,
                tells_requests: true,
                numbers,
                note: None,
            },
            answer_time: Duration::from_micros(300),
            own: 1,
            at: Instant::now(),
        }
    }

    #[test]
    fn the_place_in_the_queue_and_the_time_left_come_from_the_job() {
        let mut late = request("0c", "b", false);
        late.age = Duration::from_secs(130);
        let requests = vec![
            request("0a", "a", false),
            request("0b", "a", true),
            late,
            request("0d", "a", true),
            request("0e", "b", true),
        ];
        let mut model = Model::new("x", true);
        model.update(snapshot(requests, &[]));
        let of = |id: &str| model.rows.iter().find(|row| row.id == id).unwrap();
        let about = |seconds| Some(Left::About(Duration::from_secs(seconds)));
        assert_eq!((of("0a").state, of("0a").left), (State::Running, about(35)));
        assert_eq!((of("0b").state, of("0b").left), (State::Queued(Some(1)), about(135)));
        assert_eq!((of("0d").state, of("0d").left), (State::Queued(Some(2)), about(235)));
        assert_eq!(of("0c").left, Some(Left::Late(Duration::from_secs(30))));
        assert_eq!(of("0e").left, about(100));
    }

    #[test]
    fn the_selection_stays_on_its_run() {
        let mut model = Model::new("x", true);
        let all = |ids: &[&str]| ids.iter().map(|id| request(id, "a", false)).collect();
        model.update(snapshot(all(&["1", "2", "3"]), &[]));
        assert_eq!(model.selected().unwrap().id, "1");
        model.select_by(1);
        model.update(snapshot(all(&["0", "1", "2", "3"]), &[]));
        assert_eq!(model.selected().unwrap().id, "2");
        model.update(snapshot(all(&["0", "1", "3"]), &[]));
        assert_eq!(model.selected().unwrap().id, "3", "the run in its place");
        model.select_by(100);
        model.update(snapshot(all(&["0"]), &[]));
        assert_eq!(model.selected().unwrap().id, "0");
        model.update(snapshot(vec![], &[]));
        assert_eq!(model.selected(), None);
    }

    #[test]
    fn rows_are_filtered_and_sorted() {
        let mut model = Model::new("x", true);
        let mut half = request("3", "c", false);
        half.steps = Some((5.0, 10.0));
        model.update(snapshot(vec![request("1", "b", true), request("2", "a", false), half], &[]));
        let ids = |model: &Model| model.rows.iter().map(|row| row.id.clone()).collect::<String>();
        assert_eq!(ids(&model), "123");
        for (name, expected) in
            [("user", "123"), ("job", "213"), ("progress", "321"), ("time left", "231")]
        {
            model.sort_next();
            assert_eq!((model.sort.name(false), &*ids(&model)), (name, expected));
        }
        model.reverse();
        assert_eq!(ids(&model), "132");
        "RUN C".chars().for_each(|character| model.type_filter(character));
        assert_eq!(ids(&model), "3");
        model.erase_filter(true);
        assert_eq!(ids(&model), "132");
    }

    #[test]
    fn rates_leave_the_own_requests_out_and_survive_a_restart() {
        let mut model = Model::new("x", true);
        let start = Instant::now();
        for (second, ok) in [(0, 100.0), (1, 111.0), (2, 3.0), (3, 4.0)] {
            let at = start + Duration::from_secs(second);
            model.update(Snapshot { at, ..snapshot(vec![], &[("ok", ok), ("x", 1.0)]) });
        }
        assert_eq!(model.rates, [10.0, 0.0, 0.0]);
        assert_eq!(model.numbers[0], ("ok".into(), 4.0, Some(1.0)));
        for _ in 0..1_000 {
            model.update(snapshot(vec![], &[("ok", 1.0)]));
        }
        assert!(model.rates.len() <= SAMPLES && model.answers.len() == SAMPLES);
    }
}
