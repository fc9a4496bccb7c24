//! `railgauge keys`: the keys of the fleet's probes.

use railgauge_proto::v1::RotateProbeKeysResponse;
use railgauge_report::number::counted;
use serde::Serialize;

use crate::args::{KeysArgs, KeysCommand, Output, RotateArgs};
use crate::columns::{ascii, wrap};
use crate::remote::{Remote, RemoteError, refuse};
use crate::{Exit, output};

const ROTATE: &str = "railgauge/keys-rotate/v1";

/// What `--output json` prints (contract).
#[derive(Debug, Serialize)]
struct Rotated {
    schema: &'static str,
    epoch: u64,
    nodes_confirmed: u32,
    nodes_without_keys: Vec<String>,
    old_keys_withdrawn: bool,
    waits_for: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &KeysArgs) -> Exit {
    let KeysCommand::Rotate(args) = &args.command;
    match rotate(args) {
        Ok(rotated) => {
            let exit = exit_of(&rotated);
            match args.ask.output {
                Output::Json => output::json(&rotated, exit),
                Output::Table => output::result(&text(&rotated), exit),
            }
        }
        Err(error) => refuse("keys", ROTATE, args.ask.output, &error, Exit::from(&error)),
    }
}

fn rotate(args: &RotateArgs) -> Result<Rotated, RemoteError> {
    let remote = Remote::asked(&args.ask)?;
    let RotateProbeKeysResponse {
        epoch,
        nodes_confirmed,
        nodes_without_keys,
        old_keys_withdrawn,
        waits_for,
    } = remote.rotate_probe_keys(args.withdraw)?;
    let schema = ROTATE;
    Ok(Rotated {
        schema,
        epoch,
        nodes_confirmed,
        nodes_without_keys,
        old_keys_withdrawn,
        waits_for,
    })
}

/// Old keys that are still answered, and nodes that have none, are not what was asked for.
const fn exit_of(rotated: &Rotated) -> Exit {
    if rotated.old_keys_withdrawn && rotated.nodes_without_keys.is_empty() {
        Exit::Healthy
    } else {
        Exit::Degraded
    }
}

fn text(rotated: &Rotated) -> String {
    let mut text = String::new();
    let nodes = counted(rotated.nodes_confirmed as usize, "node");
    let withdrawn = if rotated.old_keys_withdrawn {
        "old keys are answered no more"
    } else {
        "old keys are still answered, until nobody can probe with them any more"
    };
    let epoch = rotated.epoch;
    wrap(&mut text, "", &format!("epoch {epoch}: confirmed by {nodes}; {withdrawn}"));
    for line in &rotated.waits_for {
        let waited = if rotated.old_keys_withdrawn { "not waited for" } else { "waits" };
        wrap(&mut text, "  ", &format!("{waited}: {}", ascii(line)));
    }
    for node in &rotated.nodes_without_keys {
        let node = ascii(node);
        wrap(
            &mut text,
            "  ",
            &format!("{node} is probed, and probes, without authentication: upgrade its agent"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_said() {
        let mut rotated = Rotated {
            schema: ROTATE,
            epoch: 7,
            nodes_confirmed: 1,
            nodes_without_keys: Vec::new(),
            old_keys_withdrawn: true,
            waits_for: Vec::new(),
        };
        assert_eq!(exit_of(&rotated), Exit::Healthy);
        assert_eq!(text(&rotated), "epoch 7: confirmed by 1 node; old keys are answered no more\n");
        rotated.old_keys_withdrawn = false;
        rotated.waits_for.push("n1 has not confirmed its new key".to_owned());
        rotated.nodes_without_keys.push("old\u{1b}".to_owned());
        assert_eq!(exit_of(&rotated), Exit::Degraded);
        let said = text(&rotated);
        assert!(said.contains("  waits: n1 has not confirmed its new key\n"), "{said}");
        assert!(!said.contains('\u{1b}'), "{said}");
    }
}
