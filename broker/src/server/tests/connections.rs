//! One connection with a service that does as it is told: order, overlap, silence and greed.
//!
//! The client id of a request says what happens to it: `now`, `later` (when the test lets it), `silent`, `close`, `big`.

use crate::server::net::{Listener, Stream};
use crate::server::service::{Answer, Call, Outcome, Reply, Service};
use crate::server::{Options, serve};
use bytes::{BufMut, BytesMut};
use millrace_protocol::header::{begin_response, end_response};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot, watch};

impl Stream for DuplexStream {}

struct Given(mpsc::Receiver<DuplexStream>);

impl Listener for Given {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, ([127, 0, 0, 1], 1).into())),
            None => std::future::pending().await,
        }
    }
}

#[derive(Default)]
struct Obedient {
    started: Mutex<Vec<i32>>,
    waiting: Mutex<BTreeMap<i32, oneshot::Sender<()>>>,
}

impl Obedient {
    fn started(&self) -> Vec<i32> {
        self.started.lock().unwrap().clone()
    }

    fn release(&self, correlation: i32) {
        self.waiting.lock().unwrap().remove(&correlation).unwrap().send(()).unwrap();
    }
}

fn reply(call: &Call, out: BytesMut, size: usize) -> Outcome {
    let mut out = out;
    let start = begin_response(&mut out, call.header.key, call.header.version, call.header.correlation_id);
    out.put_bytes(7, size);
    end_response(&mut out, start, 0);
    Outcome::Reply(Reply::from(out))
}

impl Service for Obedient {
    fn call(&self, mut call: Call) -> Answer {
        let correlation = call.header.correlation_id;
        self.started.lock().unwrap().push(correlation);
        let out = std::mem::take(&mut call.out);
        match call.header.client_id() {
            Some("later") => {
                let (release, released) = oneshot::channel();
                self.waiting.lock().unwrap().insert(correlation, release);
                Answer::Later(Box::pin(async move {
                    released.await.unwrap();
                    reply(&call, out, 0)
                }))
            }
            Some("silent") => Answer::Now(Outcome::Silent(out)),
            Some("close") => Answer::Now(Outcome::Close("as it asked".to_owned())),
            Some("big") => Answer::Now(reply(&call, out, 100_000)),
            _ => Answer::Now(reply(&call, out, 0)),
        }
    }
}

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;

fn request(key: i16, correlation: i32, what: &str, body: usize) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(10 + what.len() + body).unwrap());
    frame.put_i16(key);
    frame.put_i16(3);
    frame.put_i32(correlation);
    frame.put_i16(i16::try_from(what.len()).unwrap());
    frame.put_slice(what.as_bytes());
    frame.put_bytes(1, body);
    frame.to_vec()
}

struct Bench {
    client: DuplexStream,
    service: Arc<Obedient>,
    _stop: watch::Sender<bool>,
    _streams: mpsc::Sender<DuplexStream>,
}

impl Bench {
    async fn new(options: Options) -> Self {
        let (streams, accepted) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(Obedient::default());
        tokio::spawn(serve(Given(accepted), Arc::clone(&service), options, stopped));
        let (client, server) = tokio::io::duplex(1 << 20);
        streams.send(server).await.unwrap();
        Self { client, service, _stop: stop, _streams: streams }
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.client.write_all(&frames.concat()).await.unwrap();
    }

    /// The correlation ids of the next answers.
    async fn answers(&mut self, count: usize) -> Vec<i32> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let size = self.client.read_i32().await.unwrap();
            let mut frame = vec![0; usize::try_from(size).unwrap()];
            self.client.read_exact(&mut frame).await.unwrap();
            ids.push(i32::from_be_bytes(frame[..4].try_into().unwrap()));
        }
        ids
    }

    async fn is_closed(&mut self) -> bool {
        matches!(self.client.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }

    /// Lets the connection do whatever it can do.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_the_requests_whoever_is_ready_first() {
    let mut bench = Bench::new(Options::default()).await;
    let all = [request(PRODUCE, 1, "later", 0), request(PRODUCE, 2, "now", 0), request(PRODUCE, 3, "later", 0)];
    bench.send(&all).await;
    bench.settle().await;
    assert_eq!(bench.service.started(), [1, 2, 3]);
    bench.service.release(3);
    bench.settle().await;
    bench.service.release(1);
    assert_eq!(bench.answers(3).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn only_produce_overlaps() {
    let mut bench = Bench::new(Options::default()).await;
    bench.send(&[request(PRODUCE, 1, "later", 0), request(METADATA, 2, "later", 0)]).await;
    bench.send(&[request(PRODUCE, 3, "now", 0)]).await;
    bench.settle().await;
    assert_eq!(bench.service.started(), [1]);
    bench.service.release(1);
    assert_eq!(bench.answers(1).await, [1]);
    assert_eq!(bench.service.started(), [1, 2]);
    bench.service.release(2);
    assert_eq!(bench.answers(2).await, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_answer_gets_none() {
    let mut bench = Bench::new(Options::default()).await;
    bench.send(&[request(PRODUCE, 1, "silent", 9), request(PRODUCE, 2, "now", 9)]).await;
    assert_eq!(bench.answers(1).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn frames_arrive_in_any_pieces() {
    let mut bench = Bench::new(Options::default()).await;
    let frames: Vec<u8> = (0..20).flat_map(|id| request(PRODUCE, id, "now", 3000 * id as usize)).collect();
    for piece in frames.chunks(1777) {
        bench.client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.answers(20).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_frame_beyond_the_limit_ends_the_connection_before_it_is_read() {
    for size in [1025, i32::MAX, -1] {
        let mut bench = Bench::new(Options { request_max_bytes: 1024, ..Options::default() }).await;
        bench.send(&[request(PRODUCE, 1, "now", 0), size.to_be_bytes().to_vec()]).await;
        assert_eq!(bench.answers(1).await, [1]);
        assert!(bench.is_closed().await, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_ends_the_connection() {
    let mut bench = Bench::new(Options::default()).await;
    bench.send(&[request(PRODUCE, 1, "close", 0), request(PRODUCE, 2, "now", 0)]).await;
    assert!(bench.is_closed().await);
    assert_eq!(bench.service.started(), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_not_served_without_end() {
    let mut bench = Bench::new(Options::default()).await;
    for id in 0..100 {
        bench.send(&[request(METADATA, id, "big", 0)]).await;
    }
    bench.settle().await;
    // The pipe holds a megabyte: ten answers, and the one that filled the backlog.
    assert!(bench.service.started().len() < 15, "{}", bench.service.started().len());
    assert_eq!(bench.answers(100).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let idle = Some(Duration::from_secs(60));
    let mut bench = Bench::new(Options { max_idle: idle, ..Options::default() }).await;
    bench.send(&[request(METADATA, 1, "later", 0)]).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    bench.service.release(1);
    assert_eq!(bench.answers(1).await, [1]);
    let began = tokio::time::Instant::now();
    assert!(bench.is_closed().await);
    assert!((60..=100).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_that_stands_still_is_given_up() {
    let mut bench = Bench::new(Options::default()).await;
    bench.send(&[(50_i32 << 20).to_be_bytes().to_vec(), vec![0; 100]]).await;
    let began = tokio::time::Instant::now();
    assert!(bench.is_closed().await);
    assert!((30..=70).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn large_frames_wait_for_memory_and_small_ones_do_not() {
    let options = Options { request_max_bytes: 4 << 20, request_memory: 4 << 20, ..Options::default() };
    let (streams, accepted) = mpsc::channel(1);
    let (_stop, stopped) = watch::channel(false);
    let service = Arc::new(Obedient::default());
    tokio::spawn(serve(Given(accepted), Arc::clone(&service), options, stopped));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, server) = tokio::io::duplex(16 << 20);
        streams.send(server).await.unwrap();
        clients.push(client);
    }
    let large = 3 << 20;
    clients[0].write_all(&request(PRODUCE, 1, "later", large)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    clients[1].write_all(&request(PRODUCE, 2, "now", 10)).await.unwrap();
    clients[1].write_all(&request(PRODUCE, 3, "now", large)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(service.started(), [1, 2]);
    service.release(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(service.started(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_to_be_appended_is_finished_after_the_client_has_gone() {
    let mut bench = Bench::new(Options::default()).await;
    bench.send(&[request(PRODUCE, 1, "later", 0), request(PRODUCE, 2, "silent", 0)]).await;
    bench.client.shutdown().await.unwrap();
    bench.settle().await;
    assert_eq!(bench.service.started(), [1, 2]);
    // The receiver of the release is still there.
    bench.service.release(1);
}
