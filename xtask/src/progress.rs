//! One line for each step: it turns while the step lasts where somebody watches, and is plain text elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, time::Duration};

/// A step under way.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    /// Announces a step, in the present participle: `Fetching the kernel`.
    pub(crate) fn begin(doing: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("  {doing}");
            return Self { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar) }
    }

    /// The step is done: says what came of it.
    pub(crate) fn done(mut self, what: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        eprintln!("  {what}");
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
