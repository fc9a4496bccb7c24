use proptest::prelude::*;
use railgauge_core::histogram::Recorder;

use super::*;

fn recorded(samples: &[Option<u64>]) -> Window {
    let mut recorder = Recorder::new();
    for sample in samples {
        match sample {
            Some(ns) => recorder.record(*ns),
            None => recorder.record_censored(),
        }
    }
    recorder.drain()
}

fn one(samples: &[Option<u64>]) -> PathWindow {
    let replies: Vec<_> = samples.iter().copied().filter(Option::is_some).collect();
    let (received, lost) = (replies.len() as u64, (samples.len() - replies.len()) as u64);
    let sent = received + lost;
    let kernel = StampSource::Kernel;
    let mut window = PathWindow::new(Parameters {
        interval_ns: 1_000_000,
        timeout_ns: 1_000_000_000,
        size_bytes: 44,
        rdma: None,
    });
    window.account = WindowAccount { scheduled: sent, sent, received, lost, ..Default::default() };
    window.app_rtt = recorded(samples);
    window.splits.push(Split {
        source: TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel },
        network_rtt: recorded(samples),
        prober_delay: recorded(&replies),
        responder_delay: recorded(&replies),
    });
    window
}

fn sent(window: &PathWindow) -> v1::WindowBatch {
    let at = |node: &str| v1::Endpoint { node: node.into(), port: "eth0".into(), rail: 0 };
    v1::WindowBatch {
        agent: "a".into(),
        instance: 7,
        first_sequence: 0,
        start_unix_ns: 20_000_000_000,
        length_ns: 10_000_000_000,
        plan_epoch: 1,
        paths: vec![v1::Path {
            src: Some(at("a")),
            dst: Some(at("b")),
            transport: v1::Transport::Udp.into(),
            memory: v1::Memory::Host.into(),
            flow: 0,
            dscp: 0,
        }],
        windows: vec![window_message(0, window)],
    }
}

proptest! {
    #[test]
    fn what_is_sent_is_what_arrives(samples in prop::collection::vec(
        prop::option::weighted(0.95, 0u64..100_000_000_000), 1..300)) {
        let window = one(&samples);
        let batch = batch(&sent(&window)).unwrap();
        prop_assert_eq!(&batch.windows[0].1, &window);
    }
}

fn refused(change: impl FnOnce(&mut v1::WindowBatch)) -> String {
    let mut message = sent(&one(&[Some(5), Some(9), None]));
    change(&mut message);
    let error = batch(&message).unwrap_err();
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn lies_are_refused_with_a_sentence() {
    let account = |m: &mut v1::WindowBatch, change: fn(&mut v1::Account)| {
        change(m.windows[0].account.as_mut().unwrap());
    };
    let cases: [(&str, String); 9] = [
        (
            "app_rtt holds 2 replies, received are 1",
            refused(|m| {
                account(m, |a| {
                    a.received = 1;
                    a.in_flight = 1;
                })
            }),
        ),
        ("sent 3 is not received 9", refused(|m| account(m, |a| a.received = 9))),
        ("does not begin at mallory", refused(|m| m.agent = "mallory".into())),
        (
            "app_rtt does not decode",
            refused(|m| {
                m.windows[0].app_rtt.as_mut().unwrap().hdr_v2[3] ^= 1;
            }),
        ),
        ("contradict its buckets", refused(|m| m.windows[0].app_rtt.as_mut().unwrap().max_ns = 1)),
        ("one of the batch's paths", refused(|m| m.windows[0].path = 1)),
        ("a multiple of length_ns", refused(|m| m.start_unix_ns += 1)),
        ("the number of windows is 0", refused(|m| m.windows.clear())),
        ("transport is 0", refused(|m| m.paths[0].transport = 0)),
    ];
    for (expected, said) in cases {
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
}

/// The fuzz target `agent_message` wants sums of windows to be windows; found when it was written.
#[test]
fn windows_whose_sums_would_contradict_themselves_are_refused() {
    let doubled = |times| {
        let mut window = one(&[Some(5), Some(9), None]);
        (0..times).for_each(|_| window.merge(&window.clone()));
        batch(&sent(&window)).map_err(|error| error.to_string())
    };
    assert!(doubled(38).is_ok());
    assert!(doubled(39).unwrap_err().contains("at most 2^40"));
    assert!(doubled(61).unwrap_err().contains("at most 2^40"));
    let why = refused(|batch| {
        let series = batch.windows[0].app_rtt.as_mut().unwrap();
        (series.rise_gaps, series.rise_counts) = (vec![1, 1], vec![i64::MIN, i64::MAX]);
    });
    assert!(why.contains("contradicts itself"), "{why}");
    // Rises of no sample would be lost on the way back.
    let mut empty = PathWindow::new(one(&[]).parameters);
    empty.splits.clear();
    let mut message = sent(&empty);
    let series = message.windows[0].app_rtt.get_or_insert_default();
    (series.rise_gaps, series.rise_counts) = (vec![1], vec![-1]);
    assert!(batch(&message).is_err());
}
