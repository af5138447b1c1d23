//! Panics while the terminal shows a screen.

fn main() {
    kakehi_cli::probe::panic_on_a_screen();
}
