//! What a counted error means to the person who must mend it: a sentence that names the thing and the way out.

use super::{PingRun, Transport};

/// Reasons in the order in which they explain silence, the most telling first. Those that explain one sample only
/// (`follow_up_missing` and the like) are counted but need nobody's hand.
const EXPLAINED: [&str; 17] = [
    "packet_too_big",
    "port_unreachable",
    "protocol_unreachable",
    "network_unreachable",
    "host_unreachable",
    "host_down",
    "not_permitted",
    "interface_down",
    "no_buffer_space",
    "reply_hmac_wrong",
    "reply_too_short",
    "connection_lost",
    "invalid_argument",
    "protocol_error",
    "send_queue_full",
    "receive_buffer_overflow",
    "reply_other_session",
];

/// The errors of a run that have a sentence: reason, how often, sentence.
pub fn explained(run: &PingRun) -> Vec<(&'static str, u64, String)> {
    let errors = run.end.account.errors_by_reason();
    let found = EXPLAINED.iter().filter_map(|&reason| Some((reason, *errors.get(reason)?)));
    found.map(|(reason, count)| (reason, count, sentence(run, reason))).collect()
}

/// Why no reply counted, when none did.
pub fn of_silence(run: &PingRun) -> String {
    if let Some((_, _, sentence)) = explained(run).into_iter().next() {
        return format!("no reply: {sentence}");
    }
    let peer = run.peer;
    let account = &run.end.account;
    if account.scheduled == 0 {
        let replies: u64 = run.end.flows.iter().map(|flow| flow.packets_received).sum();
        return format!(
            "stopped during the warm-up, before any probe that counts ({replies} replies came): let it run longer, or --warmup 0"
        );
    }
    if account.sent == 0 {
        return format!(
            "no probe could be sent to {peer}: see the errors, and `ip route get {}`",
            peer.ip()
        );
    }
    if account.lost == 0 {
        return format!("no reply from {peer} before the run was stopped");
    }
    timed_out(run)
}

fn timed_out(run: &PingRun) -> String {
    let (peer, within) = (run.peer, run.config.timeout);
    if run.config.transport.is_rdma() {
        return format!(
            "no answer within {within:?} through a queue pair that was connected: check the link (`rdma link`), and that the fabric lets RDMA pass between the two addresses (see errors)"
        );
    }
    if run.config.transport == Transport::Tcp {
        return format!(
            "no reply from {peer} within {within:?} over an open connection: is it `railgauge reflect --transport tcp`?"
        );
    }
    let key = if run.config.key.is_some() {
        "that it has the same key"
    } else {
        "that it does not ask for a key (--auth-key-file)"
    };
    format!(
        "no reply from {peer} within {within:?}: check that `railgauge reflect` or another STAMP reflector runs there, {key}, and that no firewall on the way drops UDP port {}",
        peer.port()
    )
}

fn sentence(run: &PingRun, reason: &str) -> String {
    let (peer, ip) = (run.peer, run.peer.ip());
    match reason {
        "packet_too_big" => too_big(run),
        "port_unreachable" => format!(
            "{peer} answers that nobody listens on that port (ICMP port unreachable): start `railgauge reflect` there, or name its port as in `ping {}`",
            std::net::SocketAddr::new(ip, Transport::Tcp.default_port())
        ),
        "protocol_unreachable" | "protocol_error" => {
            format!("{ip} answers with an ICMP error that is not about its port: does it take UDP?")
        }
        "network_unreachable" | "host_unreachable" | "host_down" => format!(
            "{ip} cannot be reached: check `ip route get {ip}`, `ip link`, and that the host is up"
        ),
        "not_permitted" => format!(
            "this host does not let packets to {peer} out, by its firewall or a route that prohibits: check `nft list ruleset`, `iptables -S OUTPUT` and `ip route get {ip}`"
        ),
        "interface_down" => {
            format!("the interface towards {ip} is gone or down: check `ip route get {ip}` and `ip link`")
        }
        "no_buffer_space" => format!(
            "the interface towards {ip} refuses packets, its queue full or its link down: check `ip -s link`"
        ),
        "reply_hmac_wrong" => {
            format!("{peer} answers with another key: give both sides the same --auth-key-file")
        }
        "reply_too_short" => format!(
            "what {peer} answers is too short for STAMP in this mode: does one side alone have a key?"
        ),
        "reply_other_session" => {
            format!("{peer} answers with another session identifier: check --ssid and the reflector's")
        }
        "connection_lost" => format!(
            "the connection to {peer} was lost: did its `railgauge reflect --transport tcp` stop?"
        ),
        "invalid_argument" => {
            format!("the kernel refuses to send to {ip} from there: check --source and `ip route get {ip}`")
        }
        "send_queue_full" => {
            "the socket's send queue was full: lengthen --interval, or check that the link is up"
                .to_owned()
        }
        _ => "replies came faster than they were read: lengthen --interval, or raise net.core.rmem_max"
            .to_owned(),
    }
}

fn too_big(run: &PingRun) -> String {
    let (size, ip) = (run.size_bytes, run.peer.ip());
    let headers = if ip.is_ipv4() { 28 } else { 48 };
    match run.end.mtu {
        Some(mtu) => format!(
            "packets of {size} octets do not fit the path to {ip} (MTU {mtu}): use --size {} or less",
            mtu.saturating_sub(headers)
        ),
        None => {
            format!("packets of {size} octets do not fit the path to {ip}: use a smaller --size")
        }
    }
}
