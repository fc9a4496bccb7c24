//! What keeps us out is said in a sentence.

use railgauge_fabric::verbs::{Access, Context, Placement, devices};
use serde_json::json;

use crate::ledger::{Ledger, Trouble, chain};

pub fn run(ledger: &mut Ledger, device: &str, expect: &str, bytes: usize) -> Result<(), Trouble> {
    let said = match attempt(device, bytes) {
        Ok(()) => "nothing: it works".to_owned(),
        Err(error) => chain(&*error),
    };
    ledger.check("refused", said.contains(expect), &json!({ "expected": expect, "said": said }))
}

fn attempt(device: &str, bytes: usize) -> Result<(), Trouble> {
    devices()?;
    let context = Context::open(device)?;
    context.protection_domain()?.register(bytes, Placement::Anywhere, Access::LOCAL)?;
    Ok(())
}
