//! The keys and their actions.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Mode, Model, State};

/// The action that [`press`] returns to its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Stop,
    Redraw,
    /// Attach to the run with this id.
    Attach(String),
    /// Cancel the run with this id.
    Cancel(String),
}

/// Each key, for the help.
pub(super) const KEYS: [(&str, &str); 9] = [
    ("Up Down j k", "select; also PgUp, PgDn, g, G"),
    ("Enter a", "attach to the run; Ctrl-\\ leaves it"),
    ("c", "cancel the run, after a question"),
    ("/", "filter; Esc ends the filter"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    ("Ctrl-L", "draw the screen anew"),
    ("Ctrl-Z", "back to the shell; `fg` returns"),
    ("q Esc", "quit"),
];

/// Applies a key. `page` is the number of rows on the screen.
pub(super) fn press(model: &mut Model, key: KeyEvent, page: usize) -> Action {
    if key.kind == KeyEventKind::Release {
        return Action::Nothing;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Action::Interrupt,
            KeyCode::Char('z') => Action::Stop,
            KeyCode::Char('l') => Action::Redraw,
            KeyCode::Char('u') if model.mode == Mode::Filter => {
                model.erase_filter(true);
                Action::Nothing
            }
            _ => Action::Nothing,
        };
    }
    match std::mem::take(&mut model.mode) {
        Mode::Rows => return on_rows(model, key.code, page),
        // Any key ends the help.
        Mode::Help => {}
        Mode::Filter => on_filter(model, key.code),
        Mode::Confirm(id, _) => {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return Action::Cancel(id);
            }
        }
    }
    Action::Nothing
}

fn on_rows(model: &mut Model, code: KeyCode, page: usize) -> Action {
    let page = isize::try_from(page.max(1)).unwrap_or(1);
    match code {
        KeyCode::Char('q') => return Action::Quit,
        KeyCode::Esc if model.filter.is_empty() => return Action::Quit,
        KeyCode::Esc => model.erase_filter(true),
        KeyCode::Up | KeyCode::Char('k') => model.select_by(-1),
        KeyCode::Down | KeyCode::Char('j') => model.select_by(1),
        KeyCode::PageUp => model.select_by(-page),
        KeyCode::PageDown => model.select_by(page),
        KeyCode::Home | KeyCode::Char('g') => model.select_by(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.select_by(isize::MAX),
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Char('s') => model.sort_next(),
        KeyCode::Char('r') => model.reverse(),
        KeyCode::Char('?' | 'h') => model.mode = Mode::Help,
        KeyCode::Enter | KeyCode::Char('a') => match model.selected() {
            Some(_) if model.is_fleet => {
                let text = "see `kakehi fleet attach`";
                model.say(text, std::time::Instant::now());
            }
            Some(row) if row.is_run => return Action::Attach(row.id.clone()),
            Some(_) => {
                model.say("only a run has an output to attach to", std::time::Instant::now());
            }
            None => {}
        },
        KeyCode::Char('c') | KeyCode::Delete => {
            let selected = model.selected();
            if let Some(row) = selected.filter(|row| !matches!(row.state, State::Node(_))) {
                model.mode = Mode::Confirm(row.id.clone(), row.words.clone());
            }
        }
        _ => {}
    }
    Action::Nothing
}

fn on_filter(model: &mut Model, code: KeyCode) {
    match code {
        KeyCode::Enter => return,
        KeyCode::Esc => return model.erase_filter(true),
        KeyCode::Backspace => model.erase_filter(false),
        KeyCode::Char(character) => model.type_filter(character),
        _ => {}
    }
    model.mode = Mode::Filter;
}

#[cfg(test)]
mod tests {
    use super::{
        super::model::tests::{request, snapshot},
        *,
    };

    fn type_into(model: &mut Model, keys: &str) -> Action {
        let mut last = Action::Nothing;
        for character in keys.chars() {
            let (code, modifiers) = match character {
                '\n' => (KeyCode::Enter, KeyModifiers::NONE),
                '\x1b' => (KeyCode::Esc, KeyModifiers::NONE),
                '\x08' => (KeyCode::Backspace, KeyModifiers::NONE),
                '\x03' => (KeyCode::Char('c'), KeyModifiers::CONTROL),
                '\x1a' => (KeyCode::Char('z'), KeyModifiers::CONTROL),
                character => (KeyCode::Char(character), KeyModifiers::NONE),
            };
            last = press(model, KeyEvent::new(code, modifiers), 5);
        }
        last
    }

    fn model() -> Model {
        let mut model = Model::new("x", true);
        let requests = ["1", "2", "3"].map(|id| request(id, "a", false)).into();
        model.update(snapshot(requests, &[]));
        model
    }

    #[test]
    fn a_run_is_cancelled_after_a_yes_only() {
        for (keys, expected) in [
            ("cy", Action::Cancel("1".into())),
            ("jcY", Action::Cancel("2".into())),
            ("cn", Action::Nothing),
            ("c\n", Action::Nothing),
            ("c\x1b", Action::Nothing),
            ("cq", Action::Nothing),
        ] {
            let mut model = model();
            assert_eq!(type_into(&mut model, keys), expected, "{keys:?}");
            assert_eq!(model.mode, Mode::Rows);
        }
    }

    #[test]
    fn keys_of_a_filter_are_text() {
        let mut model = model();
        assert_eq!(type_into(&mut model, "/qc\x08"), Action::Nothing);
        assert_eq!((&*model.filter, &model.mode), ("q", &Mode::Filter));
        assert_eq!(type_into(&mut model, "\n"), Action::Nothing);
        assert_eq!((&*model.filter, &model.mode), ("q", &Mode::Rows));
        assert_eq!(type_into(&mut model, "\x1b"), Action::Nothing);
        assert_eq!(model.filter, "");
        assert_eq!(type_into(&mut model, "\x1b"), Action::Quit);
    }

    #[test]
    fn control_keys_work_in_each_mode() {
        for before in ["", "/", "?", "c"] {
            let mut model = model();
            type_into(&mut model, before);
            assert_eq!(type_into(&mut model, "\x03"), Action::Interrupt, "{before}");
            assert_eq!(type_into(&mut model, "\x1a"), Action::Stop, "{before}");
        }
    }

    #[test]
    fn the_selected_run_is_attached_to() {
        let mut model = model();
        assert_eq!(type_into(&mut model, "Gk\n"), Action::Attach("2".into()));
        assert_eq!(type_into(&mut model, "ga"), Action::Attach("1".into()));
    }
}
