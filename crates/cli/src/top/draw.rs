//! Draws the screen. All texts of the server were escaped when they were read.

use std::{
    borrow::Cow,
    collections::VecDeque,
    env,
    time::{Duration, Instant},
};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row as TableRow, Sparkline, Table, TableState},
};
use unicode_width::UnicodeWidthStr;

use super::{
    keys::KEYS,
    model::{Mode, Model, Row, State},
    status::clean,
};
use crate::text::{duration, elapsed, shorten};

/// From this width on, all columns are shown.
const WIDE: u16 = 70;
/// From this height on, the sparklines are shown.
const HIGH: u16 = 16;
/// How long a missing answer is normal.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the terminal is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) has_colour: bool,
    /// Whether it shows more than ASCII.
    pub(super) is_utf8: bool,
}

impl Look {
    /// By the locale, as the C library does.
    pub(super) fn new(has_colour: bool) -> Self {
        let named = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(named);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let is_utf8 = locale.contains("utf-8") || locale.contains("utf8");
        Self { has_colour, is_utf8 }
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new() }
    }
}

const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything. Returns how many rows the table has room for.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, look: Look, now: Instant) -> usize {
    let area = frame.area();
    let is_high = area.height >= HIGH;
    let graphs = if is_high { 2 } else { 0 };
    let heads = if area.height >= 8 { 2 } else { 1 };
    let [head, graph, middle, detail, foot] = Layout::vertical([
        Constraint::Length(heads),
        Constraint::Length(graphs),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, model, look, now, head);
    draw_graphs(frame, model, look, graph);
    let rows = usize::from(middle.height.saturating_sub(1));
    if model.rows.is_empty() {
        draw_numbers(frame, model, middle);
    } else {
        draw_table(frame, model, look, middle);
    }
    draw_detail(frame, model, look, now, detail);
    draw_foot(frame, model, foot);
    if model.mode == Mode::Help {
        draw_help(frame, area);
    }
    rows
}

fn text<'t>(text: impl Into<Cow<'t, str>>, style: Style) -> Paragraph<'t> {
    Paragraph::new(Line::from(Span::styled(text.into(), style)))
}

fn draw_head(frame: &mut Frame<'_>, model: &Model, look: Look, now: Instant, area: Rect) {
    let width = usize::from(area.width);
    let snapshot = model.snapshot();
    let late = snapshot.is_some_and(|snapshot| now.duration_since(snapshot.at) > PATIENCE);
    let (title, style) = match (&model.lost, snapshot) {
        (Some((why, since)), _) => {
            let time = elapsed(now.duration_since(*since));
            (format!("reconnecting for {time}: {why}"), look.colour(Color::Red).patch(STRONG))
        }
        (None, Some(snapshot)) if late => {
            let time = elapsed(now.duration_since(snapshot.at));
            let why = format!("{}: no answer for {time}", model.place);
            (why, look.colour(Color::Yellow).patch(STRONG))
        }
        (None, Some(snapshot)) => {
            let status = &snapshot.status;
            let up = status.uptime.map(|up| up + now.duration_since(snapshot.at));
            let up = up.map_or_else(String::new, |up| format!("  up {}", elapsed(up)));
            let title = format!("{}{up}", status.server);
            // The place is long, and so it comes last.
            (format!("{}  {}", title.trim(), model.place), STRONG)
        }
        (None, None) => (model.place.clone(), STRONG),
    };
    let mut lines = vec![Line::from(Span::styled(shorten(&title, width).into_owned(), style))];
    if area.height > 1 {
        lines.push(Line::from(counts(model, width)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The numbers of running and queued requests, and as many counters as fit.
fn counts(model: &Model, width: usize) -> String {
    const FIRST: [(&str, &str); 5] = [
        ("ok", "ok"),
        ("error", "failed"),
        ("refused_requests", "refused"),
        ("cancelled", "cancelled"),
        ("connections", "connections"),
    ];
    let mut parts = vec![];
    if let Some(snapshot) = model.snapshot().filter(|snapshot| snapshot.status.tells_requests) {
        let all = snapshot.status.requests.len();
        let idle = snapshot.status.requests.iter().filter(|request| request.node_state.is_some());
        let all = all - idle.count();
        let waiting = snapshot.status.requests.iter().filter(|request| request.is_waiting).count();
        parts.push(format!("{} running", all - waiting));
        parts.push(format!("{waiting} queued"));
        for (name, shown) in FIRST {
            let found = model.numbers.iter().find(|(known, ..)| known == name);
            parts.extend(found.map(|(_, value, _)| format!("{value} {shown}")));
        }
    }
    let mut line = String::new();
    for part in parts {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.width() + gap.len() + part.width() <= width {
            line.extend([gap, &part]);
        }
    }
    line
}

fn draw_graphs(frame: &mut Frame<'_>, model: &Model, look: Look, area: Rect) {
    let rows = [
        ("requests/s", &model.rates, rate as fn(f64) -> String, Color::Green),
        ("answer", &model.answers, milliseconds, Color::Cyan),
    ];
    for ((name, samples, shown, colour), y) in rows.into_iter().zip(area.top()..area.bottom()) {
        let last = samples.back().map_or_else(|| "-".to_owned(), |last| shown(*last));
        let label = format!("{name:<10} {last:>9} ");
        let row = Rect { y, height: 1, ..area };
        let width = u16::try_from(label.len()).unwrap_or(u16::MAX).min(row.width);
        let [left, right] =
            Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(row);
        frame.render_widget(text(label, Style::new()), left);
        if look.is_utf8 {
            let bars = Sparkline::default().data(levels(samples, right.width));
            frame.render_widget(bars.style(look.colour(colour)), right);
        } else {
            frame.render_widget(text(ascii(samples, right.width), look.colour(colour)), right);
        }
    }
}

/// The newest samples, as whole numbers of thousandths, so that small values differ.
fn levels(samples: &VecDeque<f64>, width: u16) -> Vec<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let level = |sample: &f64| (sample * 1_000.0) as u64;
    let skipped = samples.len().saturating_sub(usize::from(width));
    samples.iter().skip(skipped).map(level).collect()
}

fn ascii(samples: &VecDeque<f64>, width: u16) -> String {
    const LEVELS: [char; 6] = [' ', '.', ':', '+', '*', '#'];
    let levels = levels(samples, width);
    let most = levels.iter().copied().max().unwrap_or(0).max(1);
    let level = |level: u64| {
        let index = (u128::from(level) * (LEVELS.len() as u128 - 1)).div_ceil(u128::from(most));
        LEVELS.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or('#')
    };
    levels.into_iter().map(level).collect()
}

fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn milliseconds(time: f64) -> String {
    if time < 100.0 {
        format!("{time:.1} ms")
    } else {
        duration(Duration::from_secs_f64(time / 1e3))
    }
}

/// Without requests: why, and all counters.
fn draw_numbers(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let status = model.snapshot().map(|snapshot| &snapshot.status);
    let tells = status.is_some_and(|status| status.tells_requests);
    let mut lines = vec![];
    match status {
        Some(_) if !model.filter.is_empty() => lines.push("no request matches the filter".into()),
        Some(_) if tells => lines.push("nothing runs".to_owned()),
        Some(status) => lines.extend(status.note.clone()),
        None => {}
    }
    let widest = model.numbers.iter().map(|(name, ..)| name.width()).max().unwrap_or(0);
    for (name, value, rate) in &model.numbers {
        let change =
            rate.filter(|rate| *rate > 0.0).map(|rate| format!("  {}/s", self::rate(rate)));
        let gap = " ".repeat(widest - name.width() + 2);
        lines.push(format!("{name}{gap}{value}{}", change.unwrap_or_default()));
    }
    let width = usize::from(area.width);
    let lines: Vec<Line<'_>> =
        lines.iter().map(|line| Line::from(shorten(line, width).into_owned())).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_table(frame: &mut Frame<'_>, model: &mut Model, look: Look, area: Rect) {
    let is_wide = area.width >= WIDE;
    let bar = if is_wide { 14 } else { 10 };
    let (names, widths) = columns(is_wide, model.is_fleet);
    let cells = if model.is_fleet { fleet_cells } else { cells };
    let rows = model.rows.iter().map(|row| TableRow::new(cells(row, is_wide, bar)));
    let table = Table::new(rows, widths)
        .header(TableRow::new(names.iter().copied()).style(STRONG))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .style(if model.lost.is_some() { look.colour(Color::DarkGray) } else { Style::new() });
    let selected = model.selected_index();
    // A larger terminal shows more rows, not an empty rest.
    let room = usize::from(area.height.saturating_sub(1));
    model.top = model.top.min(model.rows.len().saturating_sub(room));
    let mut state = TableState::new().with_offset(model.top).with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
    model.top = state.offset();
}

/// The names of the columns, and their widths.
fn columns(is_wide: bool, is_fleet: bool) -> (&'static [&'static str], Vec<Constraint>) {
    let (names, widths, rest): (&[_], &[u16], usize) = match (is_wide, is_fleet) {
        (true, false) => {
            let names = &["RUN", "USER", "AGE", "STATE", "LEFT", "REQUEST", "LAST LINE"];
            (names, &[7, 8, 9, 14, 11], 2)
        }
        (false, false) => (&["RUN", "AGE", "STATE", "REQUEST"], &[7, 9, 10], 1),
        (true, true) => (&["NODE", "AGE", "STATE", "REQUEST", "LAST LINE"], &[16, 9, 14], 2),
        (false, true) => (&["NODE", "AGE", "STATE", "REQUEST"], &[10, 8, 10], 1),
    };
    let widths = widths.iter().copied().map(Constraint::Length);
    (names, widths.chain(std::iter::repeat_n(Constraint::Fill(1), rest)).collect())
}

fn state_of(row: &Row, bar: usize) -> String {
    match row.state {
        State::Running => "running".to_owned(),
        State::Queued(None) => "queued".to_owned(),
        State::Queued(Some(place)) => format!("queued #{place}"),
        State::Done(part) => self::bar(part, bar),
        State::Node(state) => state.to_owned(),
    }
}

/// A job says enough: `run` is the same in most rows.
fn words(row: &Row) -> &str {
    row.words.strip_prefix("run ").filter(|_| row.is_run).unwrap_or(&row.words)
}

fn fleet_cells(row: &Row, is_wide: bool, bar: usize) -> Vec<String> {
    let age = if matches!(row.state, State::Node(_)) { String::new() } else { elapsed(row.age) };
    let mut cells = vec![row.user.clone(), age, state_of(row, bar), words(row).to_owned()];
    if is_wide {
        cells.push(row.line.clone());
    }
    cells
}

fn cells(row: &Row, is_wide: bool, bar: usize) -> Vec<String> {
    let state = state_of(row, bar);
    let words = words(row);
    let (id, age) = (clean(&row.id), elapsed(row.age));
    if is_wide {
        let left = row.left.map_or_else(|| "-".to_owned(), super::model::Left::text);
        let texts = [words.to_owned(), row.line.clone()];
        return [id, row.user.clone(), age, state, left].into_iter().chain(texts).collect();
    }
    vec![id, age, state, words.to_owned()]
}

/// `[#####     ] 50%`, in ASCII. The part is from 0 to 1.
fn bar(part: f64, width: usize) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let thousandths = (part * 1_000.0) as usize;
    let room = width.saturating_sub("[] 100%".len());
    let full = (thousandths * room / 1_000).min(room);
    format!("[{:<room$}]{:>4}%", "#".repeat(full), thousandths / 10)
}

/// A message, or more about the selected row.
fn draw_detail(frame: &mut Frame<'_>, model: &Model, look: Look, now: Instant, area: Rect) {
    let width = usize::from(area.width);
    if let Some(message) = model.message(now) {
        let style = look.colour(Color::Yellow);
        return frame.render_widget(text(shorten(message, width), style), area);
    }
    let Some(row) = model.selected() else { return };
    let left = row.left.map(|left| format!("  {}", left.text())).unwrap_or_default();
    let line = if row.line.is_empty() { &row.words } else { &row.line };
    let shown = if model.is_fleet {
        let run = row.id.split_once('/').map_or("", |(_, run)| run);
        let gap = if run.is_empty() { "" } else { " " };
        format!("{}{gap}{}{left}: {line}", row.user, clean(run))
    } else if area.width >= WIDE {
        format!("{}: {line}", clean(&row.id))
    } else {
        format!("{}{left}: {line}", row.user)
    };
    frame.render_widget(text(shorten(&shown, width), look.colour(Color::Cyan)), area);
}

fn draw_foot(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let width = usize::from(area.width);
    let line = match &model.mode {
        Mode::Confirm(id, words) => {
            let question = " [y/N]";
            let what = format!("Cancel {} ({words})?", clean(id));
            format!("{}{question}", shorten(&what, width.saturating_sub(question.len())))
        }
        Mode::Filter => format!("filter: {}_", model.filter),
        _ if !model.filter.is_empty() => format!("filter: {}  Esc removes it", model.filter),
        _ if area.width >= WIDE => {
            let attach = if model.is_fleet { "" } else { "Enter attach  " };
            let order = if model.is_reversed { " reversed" } else { "" };
            let sort = model.sort.name(model.is_fleet);
            format!("{attach}c cancel  / filter  s sort: {sort}{order}  ? help  q quit")
        }
        _ if model.is_fleet => "c cancel  / filter  ? help  q quit".to_owned(),
        _ => "Enter attach  c cancel  ? help  q quit".to_owned(),
    };
    let style = Style::new().add_modifier(Modifier::REVERSED);
    let line = shorten(&crate::escape::escape(&line), width).into_owned();
    frame.render_widget(text(format!("{line:<width$}"), style), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let is_wide = area.width >= WIDE;
    let lines: Vec<_> =
        KEYS.iter().map(|(key, text)| Line::from(format!("{key:<12} {text}"))).collect();
    let height = u16::try_from(KEYS.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let width = if is_wide { 60 } else { area.width };
    let [place] = Layout::horizontal([Constraint::Length(width)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let place = Rect { y: (area.height - height) / 2, height, ..place };
    frame.render_widget(Clear, place);
    // Small screens have no room for a border.
    let block = if area.height > height { Block::bordered().title(" keys ") } else { Block::new() };
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::model::tests::{request, snapshot},
        *,
    };

    const LOOK: Look = Look { has_colour: true, is_utf8: false };

    fn drawn(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| _ = draw(frame, model, LOOK, Instant::now())).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(row).collect()
    }

    fn model() -> Model {
        let mut half = request("0vc9qs1", "backup photos", false);
        half.steps = Some((5.0, 10.0));
        half.line = clean("copied 5 of 10 files");
        let requests = vec![half, request("0vc9qs2", "backup music", true)];
        let mut model = Model::new("/run/kakehi.sock", true);
        model.update(snapshot(requests, &[("ok", 12.0), ("error", 1.0)]));
        model
    }

    #[test]
    fn a_usual_terminal_shows_everything() {
        let lines = drawn(&mut model(), 80, 24);
        assert!(lines[0].starts_with("kakehid 0.1.0  up 1 h 02 m  /run/kakehi.sock"), "{lines:#?}");
        assert!(lines[1].starts_with("1 running  1 queued  12 ok  1 failed"), "{lines:#?}");
        assert!(lines[3].starts_with("answer        0.3 ms #"), "{lines:#?}");
        assert!(
            lines[4].starts_with("RUN     USER     AGE       STATE          LEFT"),
            "{lines:#?}"
        );
        for word in ["0vc9qs1", "root", "1 m 05 s", "[###    ]  50%", "~35 s", "backup", "copied 5"]
        {
            assert!(lines[5].contains(word), "{word}: {lines:#?}");
        }
        assert!(lines[6].contains("queued #1"), "{lines:#?}");
        assert!(lines[22].starts_with("0vc9qs1: copied 5 of 10 files"), "{lines:#?}");
        assert!(lines[23].starts_with("Enter attach"), "{lines:#?}");
    }

    #[test]
    fn a_small_terminal_shows_what_matters() {
        let lines = drawn(&mut model(), 40, 10);
        assert!(lines[2].starts_with("RUN     AGE       STATE      REQUEST"), "{lines:#?}");
        assert!(lines[3].starts_with("0vc9qs1 1 m 05 s  [#  ]  50% backup pho"), "{lines:#?}");
        assert!(lines[8].starts_with("root  ~35 s: copied 5 of 10 files"), "{lines:#?}");
        assert!(lines[9].starts_with("Enter attach  c cancel  ? help  q quit"), "{lines:#?}");
    }

    #[cfg(feature = "fleet")]
    fn fleet() -> Model {
        use super::super::status::Request;
        let of = |node: &str, state| Request {
            id: format!("{node}/"),
            node: Some(node.into()),
            node_state: state,
            ..Request::default()
        };
        let mut run = request("web-1/0vc9qs1", "backup photos", false);
        run.steps = Some((5.0, 10.0));
        run.line = "copied 5 of 10 files".into();
        run.node = Some("web-1".into());
        let mut silent = of("db-1", Some("no answer"));
        silent.line = "last seen 6 m 02 s ago".into();
        let mut model = Model::of_fleet("10.0.0.1:4222");
        let mut all = snapshot(vec![silent, run, of("web-2", Some("idle"))], &[("ok", 12.0)]);
        all.status.server = "3 nodes  1 no answer".into();
        all.status.uptime = None;
        model.update(all);
        model
    }

    #[cfg(feature = "fleet")]
    #[test]
    fn a_fleet_has_a_row_for_each_node_on_any_terminal() {
        let lines = drawn(&mut fleet(), 80, 24);
        assert!(lines[0].starts_with("3 nodes  1 no answer  10.0.0.1:4222"), "{lines:#?}");
        assert!(lines[1].starts_with("1 running  0 queued  12 ok"), "{lines:#?}");
        assert!(lines[4].starts_with("NODE             AGE       STATE          REQUEST"));
        assert!(lines[5].starts_with("db-1                       no answer"), "{lines:#?}");
        assert!(lines[5].contains("last seen 6 m"), "{lines:#?}");
        for word in ["web-1", "1 m 05 s", "[###    ]  50%", "backup", "copied 5"] {
            assert!(lines[6].contains(word), "{word}: {lines:#?}");
        }
        assert!(lines[7].starts_with("web-2                      idle"), "{lines:#?}");
        assert!(lines[23].starts_with("c cancel  / filter  s sort: arrival"), "{lines:#?}");
        let lines = drawn(&mut fleet(), 40, 10);
        assert!(lines[2].starts_with("NODE       AGE      STATE      REQUEST"), "{lines:#?}");
        assert!(lines[3].starts_with("db-1                no answer"), "{lines:#?}");
        assert!(lines[4].starts_with("web-1      1 m 05 s [#  ]  50% backup"), "{lines:#?}");
        assert!(lines[8].starts_with("db-1  ~1 m 40 s: last seen 6 m 02 s"), "{lines:#?}");
        assert!(lines[9].starts_with("c cancel  / filter  ? help  q quit"), "{lines:#?}");
        for size in [(20, 4), (1, 1), (200, 3)] {
            drawn(&mut fleet(), size.0, size.1);
        }
    }

    #[test]
    fn each_mode_fits_on_any_terminal() {
        for (width, height) in [(80, 24), (40, 10), (20, 4), (1, 1), (200, 3)] {
            for mode in [
                Mode::Rows,
                Mode::Help,
                Mode::Filter,
                Mode::Confirm("0vc9qs1".into(), "run backup".into()),
            ] {
                let mut model = model();
                model.mode = mode.clone();
                let lines = drawn(&mut model, width, height);
                if width >= 40 && matches!(mode, Mode::Confirm(..)) {
                    assert!(lines.last().unwrap().contains("[y/N]"), "{lines:#?}");
                }
                if width >= 40 && height >= 10 && mode == Mode::Help {
                    for (key, _) in KEYS {
                        assert!(lines.iter().any(|line| line.contains(key)), "{key}: {lines:#?}");
                    }
                }
                model.update(snapshot(vec![], &[("ok", 1.0)]));
                drawn(&mut model, width, height);
            }
        }
    }

    #[test]
    fn a_larger_terminal_shows_more_rows() {
        let mut model = Model::new("x", true);
        let requests = (0..20).map(|number| request(&format!("run{number:02}"), "a", true));
        model.update(snapshot(requests.collect(), &[]));
        model.select_by(100);
        let runs =
            |lines: Vec<String>| lines.iter().filter(|line| line.contains("queued #")).count();
        assert_eq!(runs(drawn(&mut model, 40, 10)), 5);
        assert_eq!(runs(drawn(&mut model, 80, 24)), 17);
        assert!(drawn(&mut model, 80, 24)[21].starts_with("run19"));
    }

    #[test]
    fn a_server_without_requests_shows_its_counters() {
        let mut model = Model::new("x", true);
        let mut other = snapshot(vec![], &[("hits", 3.0), ("queue.length", 1.5)]);
        other.status.tells_requests = false;
        other.status.note = Some("cached".to_owned());
        model.update(other);
        let lines = drawn(&mut model, 80, 24);
        assert!(lines[4].starts_with("cached"), "{lines:#?}");
        assert!(lines[5].starts_with("hits          3"), "{lines:#?}");
        assert!(lines[6].starts_with("queue.length  1.5"), "{lines:#?}");
    }

    #[test]
    fn a_lost_server_is_named() {
        let mut model = model();
        let failure = crate::failure::Failure::usage("cannot connect", "gone\u{1b}[2J", "");
        model.fail(&failure, Instant::now());
        let lines = drawn(&mut model, 80, 24);
        assert!(
            lines[0].starts_with("reconnecting for 0 s: cannot connect: gone\\x1b[2J"),
            "{lines:#?}"
        );
        assert!(lines[5].contains("backup"), "the last state stays: {lines:#?}");
    }
}
