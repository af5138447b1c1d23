use super::*;

#[test]
fn the_log_has_what_a_panic_said() {
    let text = |panics: fn()| {
        let panic = catch_unwind(panics).unwrap_err();
        panic_text(&*panic).to_owned()
    };
    assert_eq!(text(|| panic!("as it is")), "as it is");
    assert_eq!(text(|| panic!("{} things", 2)), "2 things");
    assert_eq!(text(|| std::panic::panic_any(2)), "no text");
}

#[test]
fn the_log_has_the_start_of_what_a_client_wrote() {
    for text in ["", "short", &"é".repeat(LOGGED)] {
        assert_eq!(cut(text), text);
    }
    assert_eq!(cut(&"é".repeat(LOGGED + 1)), "é".repeat(LOGGED));
}
