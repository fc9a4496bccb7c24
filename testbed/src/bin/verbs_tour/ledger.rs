//! What held and what did not, a line each.

use std::io::Write;

use serde_json::{Value, json};

/// Anything that stops the tour.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// The account of one run.
#[derive(Default)]
pub struct Ledger {
    checks: usize,
    broken: Vec<String>,
}

impl Ledger {
    /// Prints a check with its figures.
    pub fn check(&mut self, name: &str, held: bool, figures: &Value) -> Result<(), Trouble> {
        self.checks += 1;
        if !held {
            self.broken.push(name.to_owned());
        }
        let line = json!({ "check": name, "held": held, "figures": figures });
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    }

    /// Ends the run: an error where a check did not hold, or where there was none.
    pub fn end(self) -> Result<(), Trouble> {
        match (self.checks, self.broken.as_slice()) {
            (0, _) => Err("nothing was checked".into()),
            (_, []) => Ok(()),
            (checks, broken) => {
                Err(format!("{} of {checks} do not hold: {}", broken.len(), broken.join(", "))
                    .into())
            }
        }
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
