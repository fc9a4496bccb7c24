//! Pages over a socket, as a browser gets them.

use std::fs;
use std::net::SocketAddr;

use railgauge_core::finding::Verdict;
use railgauge_report::doc::{Findings, NodeDoc, Paths, Sweep};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::session::tests::{Agent, coordinator, within};

struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await.unwrap();
    let all = String::from_utf8(all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    ask(address, &request).await
}

#[tokio::test]
async fn the_page_and_its_documents_are_there_and_cannot_be_written() {
    let c = coordinator().await;
    let _a = Agent::joined(c.running.grpc, "gpu-07", 1).await;
    let http = c.running.http;
    let home = get(http, "/?q=p99.9").await;
    assert_eq!(home.status, 200);
    for header in ["cache-control: no-store", "content-type: text/html", "default-src 'none'"] {
        assert!(home.head.contains(header), "{}", home.head);
    }
    assert!(home.body.contains("gpu-07") && home.body.contains("aria-current=\"page\">p99.9<"));
    assert!(home.body.contains("href=\"/sweeps\"") && home.body.contains("nothing is judged yet"));
    assert!(get(http, "/").await.body.contains("aria-current=\"page\">p99<"));
    assert_eq!(get(http, "/?q=p42").await.status, 400);

    let paths: Paths = serde_json::from_str(&get(http, "/paths.json").await.body).unwrap();
    assert_eq!((paths.nodes[0].name.as_str(), paths.paths.len()), ("gpu-07", 0));
    let findings: Findings = serde_json::from_str(&get(http, "/findings.json").await.body).unwrap();
    assert_eq!(findings.verdict, Verdict::Unknown);
    let nodes: Vec<NodeDoc> = serde_json::from_str(&get(http, "/nodes.json").await.body).unwrap();
    assert_eq!(nodes[0].state, "connected");

    for method in ["POST", "PUT", "DELETE"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = ask(http, &request).await;
        assert_eq!(
            (answer.status, answer.head.contains("allow: get")),
            (405, true),
            "{}",
            answer.head
        );
    }
    let head = ask(http, "HEAD /nodes.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for nowhere in ["/nowhere", "/sweeps/s1", "/sweeps/s1.json", "/sweeps/..%2f..%2flock"] {
        assert_eq!(get(http, nowhere).await.status, 404, "{nowhere}");
    }
    let long =
        format!("GET /?q={} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(100_000));
    assert!(ask(http, &long).await.status >= 400);
    assert_eq!(ask(http, "no HTTP at all\r\n\r\n").await.status, 400);
    c.running.stop().await;
}

#[tokio::test]
async fn sweeps_are_listed_and_shown() {
    let c = coordinator().await;
    let http = c.running.http;
    assert!(get(http, "/sweeps").await.body.contains("None yet"));
    let sweep = Sweep { id: "s5".into(), verdict: Verdict::Failed, ..Sweep::default() };
    c.running.pages.sweeps.entered("s5", &serde_json::to_vec(&sweep).unwrap());
    assert!(get(http, "/sweeps").await.body.contains("href=\"/sweeps/s5\""));
    let read: Sweep = serde_json::from_str(&get(http, "/sweeps/s5.json").await.body).unwrap();
    assert_eq!(read, sweep);
    let page = get(http, "/sweeps/s5").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("text/html") && page.body.contains("s5"));
    c.running.stop().await;
}

#[tokio::test]
async fn many_browsers_get_one_page() {
    let c = coordinator().await;
    let http = c.running.http;
    let asking: Vec<_> =
        (0..8).map(|_| tokio::spawn(async move { get(http, "/").await.body })).collect();
    let mut pages = Vec::new();
    for page in asking {
        pages.push(page.await.unwrap());
    }
    // The page says to the millisecond when it was made.
    assert!(pages.windows(2).all(|pair| pair[0] == pair[1]));
    c.running.stop().await;
}

#[tokio::test]
async fn metrics_count_what_is_stored_and_once() {
    let c = coordinator().await;
    let http = c.running.http;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    let page = get(http, "/metrics").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    assert!(!page.body.contains("railgauge_probes_sent_total"), "nothing was measured yet");
    for _ in 0..2 {
        let batch = crate::session::tests::batch("a", 5);
        a.say(railgauge_proto::v1::agent_message::Message::Batch(batch)).await;
        a.acknowledgement().await;
    }
    let page = get(http, "/metrics").await.body;
    for line in [
        "railgauge_windows_ingested_total 1",
        "railgauge_windows_duplicate_total 1",
        "railgauge_probes_sent_total{locality=\"rail\",memory=\"host\",transport=\"udp\"} 5",
        "railgauge_nodes{state=\"connected\"} 1",
        "railgauge_nodes{state=\"lost\"} 0",
        "railgauge_store_failing 0",
        "railgauge_configuration_last_reload_successful 1",
    ] {
        assert!(page.contains(&format!("\n{line}\n")), "no {line} in {page}");
    }
    assert!(page.contains("railgauge_probe_app_rtt_seconds_count"), "{page}");
    assert!(!page.contains("railgauge_incidents_open{"), "nothing is judged yet");
    let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: application/vnd.google.protobuf;\
                   proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n\r\n";
    let mut stream = TcpStream::connect(http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await.unwrap();
    let head = String::from_utf8_lossy(&all);
    assert!(
        head.contains("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily")
    );
    c.running.stop().await;
}

#[tokio::test]
async fn a_store_that_is_ill_is_said_on_the_page() {
    let c = coordinator().await;
    let http = c.running.http;
    let mut hello = crate::hello::tests::example("a", 1);
    // A clock that is right, or its windows are not joined with others.
    hello.sent_at_unix_ns = crate::clock::now().wall.as_unix_nanos();
    let mut a = Agent::hello(c.running.grpc, hello).await;
    let batch = crate::session::tests::batch("a", 5);
    a.say(railgauge_proto::v1::agent_message::Message::Batch(batch)).await;
    a.acknowledgement().await;
    assert!(get(http, "/paths.json").await.body.contains("\"windows\":1"));
    for file in fs::read_dir(c.dir.path().join("store")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "json") {
            let length = fs::metadata(&path).unwrap().len();
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 3).unwrap();
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let page = get(http, "/").await;
    assert_eq!(page.status, 200, "{}", page.body);
    c.running.stop().await;
}
