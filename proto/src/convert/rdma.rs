//! How a path was probed over verbs, on the wire. Codes of choices are those of `core::rdma::operation`.

use railgauge_core::path::Transport;
use railgauge_core::path_window::PathWindow;
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::operation::{
    Completion, CompletionStamps, Measure, MemoryRoute, Method, Operation, Polling, Service,
};
use railgauge_core::rdma::parameters::RdmaParameters;
use railgauge_core::rdma::reliability::Reliability;

use super::{ConvertError, number, value};
use crate::v1;

/// One of a family of choices.
fn choice<T>(
    field: &'static str,
    from: i32,
    of: impl Fn(u8) -> Option<T>,
) -> Result<T, ConvertError> {
    let known = u8::try_from(from).ok().and_then(of);
    known.ok_or_else(|| value(field, number(from), "a known one"))
}

fn octet(field: &'static str, from: u32) -> Result<u8, ConvertError> {
    u8::try_from(from).map_err(|_| value(field, from.into(), "0 to 255"))
}

/// The parameters. The service is that of a connection where there are retry settings: whether it is the path's is for
/// [`fits`].
///
/// # Errors
/// The first that is none, or contradicts another.
pub fn parameters(from: &v1::RdmaParameters) -> Result<RdmaParameters, ConvertError> {
    let reliability = from.reliability.as_ref().map(reliability).transpose()?;
    let outstanding = u16::try_from(from.outstanding);
    let mtu = PathMtu::from_octets(from.path_mtu_bytes);
    let parameters = RdmaParameters {
        method: Method {
            service: if reliability.is_some() { Service::Connection } else { Service::Datagram },
            operation: choice("rdma.operation", from.operation, Operation::from_code)?,
            measure: choice("rdma.measure", from.measure, Measure::from_code)?,
            completion: choice("rdma.completion", from.completion, Completion::from_code)?,
        },
        outstanding: outstanding
            .map_err(|_| value("rdma.outstanding", from.outstanding.into(), "1 to 65535"))?,
        reliability,
        mtu: mtu.ok_or_else(|| {
            value("rdma.path_mtu_bytes", from.path_mtu_bytes.into(), "256, 512, 1024, 2048 or 4096")
        })?,
        service_level: octet("rdma.service_level", from.service_level)?,
        prober_route: choice("rdma.prober_memory", from.prober_memory, MemoryRoute::from_code)?,
        responder_route: choice(
            "rdma.responder_memory",
            from.responder_memory,
            MemoryRoute::from_code,
        )?,
        polling: choice("rdma.polling", from.polling, Polling::from_code)?,
        stamps: choice("rdma.stamps", from.stamps, CompletionStamps::from_code)?,
    };
    parameters.check()?;
    Ok(parameters)
}

fn reliability(from: &v1::RdmaReliability) -> Result<Reliability, ConvertError> {
    let codes = [
        octet("rdma.reliability.ack_timeout", from.ack_timeout)?,
        octet("rdma.reliability.retries", from.retries)?,
        octet("rdma.reliability.rnr_retries", from.rnr_retries)?,
        octet("rdma.reliability.rnr_timer", from.rnr_timer)?,
    ];
    Ok(Reliability::from_codes(codes)?)
}

/// The message of the parameters.
pub fn message(from: &RdmaParameters) -> v1::RdmaParameters {
    let RdmaParameters {
        method,
        outstanding,
        reliability,
        mtu,
        service_level,
        prober_route,
        responder_route,
        polling,
        stamps,
    } = from;
    let reliability = reliability.map(|own| {
        let [ack_timeout, retries, rnr_retries, rnr_timer] = own.codes().map(u32::from);
        v1::RdmaReliability { ack_timeout, retries, rnr_retries, rnr_timer }
    });
    v1::RdmaParameters {
        operation: method.operation.code().into(),
        measure: method.measure.code().into(),
        completion: method.completion.code().into(),
        outstanding: (*outstanding).into(),
        reliability,
        path_mtu_bytes: mtu.octets(),
        service_level: (*service_level).into(),
        prober_memory: prober_route.code().into(),
        responder_memory: responder_route.code().into(),
        polling: polling.code().into(),
        stamps: stamps.code().into(),
    }
}

/// Whether a window has what its path's transport asks for.
///
/// # Errors
/// Where verbs' parameters or series are missing, or are those of another transport.
pub fn fits(transport: Transport, window: &PathWindow) -> Result<(), ConvertError> {
    let service = window.parameters.rdma.map(|rdma| rdma.method.service);
    match (transport.rdma_service(), service) {
        (Some(_), None) => Err(ConvertError::Missing("rdma")),
        (asked, given) if asked != given => Err(ConvertError::Foreign(transport.as_str())),
        (None, None) if window.post_to_completion.is_some() => {
            Err(ConvertError::Foreign(transport.as_str()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use railgauge_core::histogram::{Recorder, Window};
    use railgauge_core::path_window::{Parameters, WindowAccount};
    use railgauge_core::rdma::reliability::Profile;

    use super::super::{batch, window_message};
    use super::*;

    fn connection() -> RdmaParameters {
        RdmaParameters {
            method: Method::latency(Service::Connection, Operation::Write, true),
            outstanding: 1,
            reliability: Some(Profile::Continuous.reliability()),
            mtu: PathMtu::B4096,
            service_level: 3,
            prober_route: MemoryRoute::Host,
            responder_route: MemoryRoute::Host,
            polling: Polling::Busy,
            stamps: CompletionStamps::Wallclock,
        }
    }

    /// The wire's names and core's codes are two lists of one thing.
    #[test]
    fn codes_of_the_wire_are_those_of_core() {
        use v1::{RdmaCompletion, RdmaMeasure, RdmaMemory, RdmaOperation, RdmaPolling, RdmaStamps};
        let of = |word: &str, prefix: &str, name: &str| {
            let word = word.trim_start_matches("gpu-").replace("imm", "immediate");
            assert_eq!(format!("{prefix}_{word}").to_uppercase(), name);
        };
        for choice in Operation::ALL {
            let wire = RdmaOperation::try_from(i32::from(choice.code())).unwrap();
            of(choice.as_str(), "rdma_operation", wire.as_str_name());
        }
        for choice in Measure::ALL {
            let wire = RdmaMeasure::try_from(i32::from(choice.code())).unwrap();
            of(choice.as_str(), "rdma_measure", wire.as_str_name());
        }
        for choice in Completion::ALL {
            let wire = RdmaCompletion::try_from(i32::from(choice.code())).unwrap();
            of(choice.as_str(), "rdma_completion", wire.as_str_name());
        }
        for choice in MemoryRoute::ALL {
            let wire = RdmaMemory::try_from(i32::from(choice.code())).unwrap();
            of(choice.as_str(), "rdma_memory", wire.as_str_name());
        }
        for choice in Polling::ALL {
            let wire = RdmaPolling::try_from(i32::from(choice.code())).unwrap();
            of(choice.as_str(), "rdma_polling", wire.as_str_name());
        }
        for choice in CompletionStamps::ALL {
            let wire = RdmaStamps::try_from(i32::from(choice.code())).unwrap();
            of(choice.as_str(), "rdma_stamps", wire.as_str_name());
        }
    }

    fn recorded(replies: u64) -> Window {
        let mut recorder = Recorder::new();
        (0..replies).for_each(|n| recorder.record(900 + n));
        recorder.drain()
    }

    /// A window whose answers were all lost: each operation completed.
    fn window() -> PathWindow {
        let parameters = Parameters {
            interval_ns: 1_000_000,
            timeout_ns: 2_400_000_000,
            size_bytes: 64,
            rdma: Some(connection()),
        };
        let account =
            WindowAccount { scheduled: 9, sent: 9, in_flight: 9, ..WindowAccount::default() };
        PathWindow { account, post_to_completion: Some(recorded(9)), ..PathWindow::new(parameters) }
    }

    fn arrived(transport: v1::Transport, window: &PathWindow) -> Result<PathWindow, String> {
        let at = |node: &str| v1::Endpoint { node: node.into(), port: "rxe0/1".into(), rail: 0 };
        let sent = v1::WindowBatch {
            agent: "a".into(),
            instance: 7,
            first_sequence: 0,
            start_unix_ns: 20_000_000_000,
            length_ns: 10_000_000_000,
            plan_epoch: 1,
            paths: vec![v1::Path {
                src: Some(at("a")),
                dst: Some(at("b")),
                transport: transport.into(),
                memory: v1::Memory::Host.into(),
                flow: 0,
                dscp: 26,
            }],
            windows: vec![window_message(0, window)],
        };
        let mut batch = batch(&sent).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
        Ok(batch.windows.remove(0).1)
    }

    #[test]
    fn windows_of_verbs_arrive_as_they_were_and_under_their_transport_alone() {
        let own = window();
        assert_eq!(arrived(v1::Transport::RdmaRc, &own), Ok(own.clone()));
        let foreign = "has parameters or series of another transport";
        for transport in [v1::Transport::RdmaUd, v1::Transport::Udp, v1::Transport::Tcp] {
            let why = arrived(transport, &own).unwrap_err();
            assert!(why.ends_with(foreign), "{transport:?}: {why}");
        }
        let mut bare = own.clone();
        bare.parameters.rdma = None;
        assert_eq!(arrived(v1::Transport::RdmaRc, &bare), Err("rdma is missing".to_owned()));
        assert!(arrived(v1::Transport::Udp, &bare).unwrap_err().ends_with(foreign));
        let mut many = own.clone();
        many.post_to_completion = Some(recorded(10));
        let why = arrived(v1::Transport::RdmaRc, &many).unwrap_err();
        assert!(why.contains("post_to_completion holds 10 samples where at most 9"), "{why}");
        let mut none = own;
        none.post_to_completion = None;
        assert_eq!(arrived(v1::Transport::RdmaRc, &none), Ok(none));
    }

    #[test]
    fn parameters_come_back_or_say_what_is_wrong() {
        let datagrams = RdmaParameters {
            method: Method::latency(Service::Datagram, Operation::Send, true),
            reliability: None,
            ..connection()
        };
        for own in [connection(), datagrams] {
            assert_eq!(parameters(&message(&own)).unwrap(), own);
        }
        let why = |change: fn(&mut v1::RdmaParameters)| {
            let mut wrong = message(&connection());
            change(&mut wrong);
            let error = parameters(&wrong).unwrap_err();
            error.to_string()
        };
        assert_eq!(why(|p| p.operation = 0), "rdma.operation is 0, which is not a known one");
        assert_eq!(why(|p| p.stamps = 300), "rdma.stamps is 300, which is not a known one");
        assert!(why(|p| p.path_mtu_bytes = 1500).starts_with("rdma.path_mtu_bytes is 1500"));
        assert_eq!(why(|p| p.outstanding = 0), "no operation may be outstanding");
        assert_eq!(why(|p| p.reliability = None), "rdma-ud knows only send, not write");
        let retries = why(|p| p.reliability.as_mut().unwrap().retries = 8);
        assert_eq!(retries, "retry count 8 is beyond 7");
    }
}
