//! Frames that are no requests: both brokers must answer alike or hang up alike.

use millrace_tests::wire::Wire;

use super::Pair;

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).expect("small").to_be_bytes()[..], body].concat()
}

/// What became of the connection: the answer's bytes, or that it was closed.
fn outcome(wire: &mut Wire) -> String {
    match wire.receive_frame() {
        Ok(answer) => format!("answered {} bytes, {:?}", answer.len(), answer.get(..6)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            "silent".to_owned()
        }
        Err(_) => "closed".to_owned(),
    }
}

/// Sends each of them on a connection of its own.
pub fn malformed(pair: &mut Pair) {
    // ApiVersions in version 99: answered in version 0 with UNSUPPORTED_VERSION.
    let future = framed(&[0, 18, 0, 99, 0, 0, 0, 77, 0xff, 0xff, 0, 1, 1, 0]);
    pair.send("ApiVersions of the future", &future, |wire| match wire.receive_frame() {
        Ok(answer) => format!("{:?}", answer.get(..6)),
        Err(_) => "closed".to_owned(),
    });
    for (case, bytes) in [
        ("an unknown key", framed(&[3, 231, 0, 0, 0, 0, 0, 77, 0xff, 0xff])),
        ("a negative key", framed(&[0xff, 0xff, 0, 0, 0, 0, 0, 77, 0xff, 0xff])),
        ("an unknown version", framed(&[0, 3, 0, 99, 0, 0, 0, 77, 0xff, 0xff, 0, 0, 0, 0])),
        ("a negative version", framed(&[0, 3, 0xff, 0xff, 0, 0, 0, 77, 0xff, 0xff, 0, 0, 0, 0])),
        ("half a header", framed(&[0, 3, 0, 1, 0])),
        ("an empty frame", framed(&[])),
        ("a header and no body", framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0xff, 0xff])),
        ("a body cut short", framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0xff, 0xff, 0, 0])),
        ("an array of two billion", framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff])),
        ("a name longer than the frame", framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0x7f, 0xff, 1, 2, 3])),
        ("bytes after the body", framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0xff, 0xff, 0, 0, 0, 0, 9, 9, 9])),
        ("a negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 0]),
        ("a length of two gigabytes", vec![0x7f, 0xff, 0xff, 0xff, 0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]),
    ] {
        pair.send(&format!("malformed: {case}"), &bytes, outcome);
    }
}
