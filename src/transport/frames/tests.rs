//! The filter over scripted frames: what passes, what is dropped, merged or refused.
use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; Head::LEN];
    Head { length: payload.len(), kind, flags, stream }.write(&mut frame);
    frame.extend(payload);
    frame
}

/// The header of a call with a body to come.
fn opened(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &[0x88])
}

/// The frames in `bytes`: header, and length of the payload that is there.
fn heads(mut bytes: &[u8]) -> Vec<Head> {
    let mut heads = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let head = Head::parse(head);
        heads.push(head);
        bytes = &rest[head.length..];
    }
    assert!(bytes.is_empty(), "a frame is cut");
    heads
}

/// A client's filter that has seen the preface.
fn client() -> Filter {
    let mut filter = Filter::client();
    feed(&mut filter, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert!(!filter.awaits_preface());
    filter
}

/// What `h2` would see of `bytes`, in one read.
fn feed(filter: &mut Filter, bytes: &[u8]) -> Result<Vec<u8>, Violation> {
    let mut buffer = bytes.to_vec();
    let walked = filter.walk(&mut buffer, &mut usize::MAX.clone())?;
    assert_eq!(walked.rest, bytes.len());
    buffer.truncate(walked.ready);
    Ok(buffer)
}

#[test]
fn tiny_data_frames_of_a_stream_are_merged_and_others_are_not() {
    let mut sent = opened(1);
    for byte in 0..100_u8 {
        sent.extend(frame(kind::DATA, 0, 1, &[byte]));
    }
    sent.extend(frame(kind::DATA, 0, 3, b"other"));
    sent.extend(frame(kind::DATA, 0, 1, b"ab"));
    sent.extend(frame(kind::DATA, flag::END_STREAM, 1, b""));
    sent.extend(frame(kind::DATA, flag::PADDED, 3, &[0, 1]));
    let seen = feed(&mut client(), &sent).unwrap();
    let data: Vec<(usize, u8, u32)> =
        heads(&seen)[1..].iter().map(|head| (head.length, head.flags, head.stream)).collect();
    assert_eq!(data, [(100, 0, 1), (5, 0, 3), (2, flag::END_STREAM, 1), (2, flag::PADDED, 3)]);
    let first = opened(1).len() + Head::LEN;
    assert_eq!(seen[first..first + 100], (0..100).collect::<Vec<u8>>());
    // However many there are, no frame is longer than any peer may send.
    let many: Vec<u8> = (0..40).flat_map(|_| frame(kind::DATA, 0, 1, &[7; MAX_TINY])).collect();
    let mut filter = client();
    feed(&mut filter, &opened(1)).unwrap();
    let merged = heads(&feed(&mut filter, &many).unwrap());
    assert_eq!(merged.iter().map(|head| head.length).sum::<usize>(), 40 * MAX_TINY);
    assert!(merged.len() == 3 && merged.iter().all(|head| head.length <= MAX_MERGED), "{merged:?}");
}

#[test]
fn every_payload_arrives_whole_wherever_the_reads_are_cut() {
    let sent = [
        opened(1),
        frame(kind::DATA, 0, 1, b"one"),
        frame(2, 0, 1, &[0; 5]),
        frame(kind::DATA, 0, 1, b"two"),
        frame(kind::RST_STREAM, 0, 99, &[0, 0, 0, 8]),
        opened(3),
        frame(kind::DATA, 0, 1, b"three"),
        frame(0xbe, 0, 0, b"extension"),
        frame(kind::DATA, flag::END_STREAM, 1, b""),
    ]
    .concat();
    for cut in 0..sent.len() {
        let mut filter = client();
        let (mut seen, mut rest) = (Vec::<u8>::new(), Vec::<u8>::new());
        for piece in [&sent[..cut], &sent[cut..]] {
            let mut buffer = [rest, piece.to_vec()].concat();
            let walked = filter.walk(&mut buffer, &mut 100).unwrap();
            seen.extend(&buffer[..walked.ready]);
            rest = buffer[walked.rest..].to_vec();
            assert!(rest.len() < Head::LEN, "{cut}");
        }
        let mut payload = Vec::<u8>::new();
        let mut at = 0;
        for head in heads(&seen) {
            assert!(head.kind == kind::DATA || head.kind == kind::HEADERS, "{cut}: {head:?}");
            at += Head::LEN + head.length;
            if head.kind == kind::DATA {
                payload.extend(&seen[at - head.length..at]);
            }
        }
        assert_eq!(payload, b"onetwothree", "{cut}");
        assert_eq!(heads(&seen).last().unwrap().flags, flag::END_STREAM, "{cut}");
    }
}

#[test]
fn a_walk_ends_after_as_many_frames_as_it_may_take() {
    let sent: Vec<u8> = (0..10).flat_map(|at| opened(2 * at + 1)).collect();
    let mut buffer = sent.clone();
    let mut frames = 4;
    let walked = client().walk(&mut buffer, &mut frames).unwrap();
    assert_eq!((walked.rest, frames), (4 * opened(1).len(), 0));
}

#[test]
fn frames_for_streams_that_were_never_opened_are_dropped() {
    let mut filter = client();
    feed(&mut filter, &opened(5)).unwrap();
    let idle =
        [frame(kind::RST_STREAM, 0, 7, &[0, 0, 0, 8]), frame(kind::WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1])];
    assert!(feed(&mut filter, &idle.concat()).unwrap().is_empty());
    // Those of older streams, and what no client may send, are for `h2`.
    let kept = [frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]), frame(kind::RST_STREAM, 0, 6, &[0, 0, 0, 8])];
    assert_eq!(feed(&mut filter, &kept.concat()).unwrap(), kept.concat());
}

#[test]
fn nothing_is_dropped_within_a_header_block() {
    let sent = [
        frame(kind::HEADERS, 0, 1, &[0x88]),
        frame(2, 0, 1, &[0; 5]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[0x88]),
    ]
    .concat();
    assert_eq!(feed(&mut client(), &sent).unwrap(), sent, "an error, which `h2` has to see");
}

#[test]
fn a_flood_of_any_control_frame_is_refused() {
    let floods = [
        frame(2, 0, 1, &[0; 5]),
        frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(kind::WINDOW_UPDATE, 0, 99, &[0, 0, 0, 1]),
        frame(0xbe, 0, 0, b""),
        frame(kind::DATA, 0, 1, b""),
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::SETTINGS, 0, 0, b""),
        frame(kind::RST_STREAM, 0, 99, &[0, 0, 0, 8]),
    ];
    for flood in floods {
        let mut filter = client();
        feed(&mut filter, &opened(1)).unwrap();
        let refused = (0..20_000).find_map(|_| feed(&mut filter, &flood).err());
        assert_eq!(refused, Some(Violation::ControlFrames), "{:?}", heads(&flood));
    }
}

#[test]
fn honest_calls_pay_for_their_control_frames() {
    let mut filter = client();
    for call in 0..20_000 {
        let stream = 2 * call + 1;
        let mut sent = [opened(stream), frame(kind::DATA, flag::END_STREAM, stream, b"message")].concat();
        for _ in 0..5 {
            sent.extend(frame(kind::WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]));
            sent.extend(frame(kind::PING, 0, 0, &[0; 8]));
        }
        feed(&mut filter, &sent).unwrap();
    }
    // A client that receives a long answer acknowledges it, and sends nothing else.
    for _ in 0..50_000 {
        let payload = vec![0; 16_384];
        let answer = frame(kind::DATA, 0, 1, &payload);
        filter.sent(&[IoSlice::new(&answer)], answer.len());
        for stream in [0, 1] {
            feed(&mut filter, &frame(kind::WINDOW_UPDATE, 0, stream, &[0, 0, 64, 0])).unwrap();
        }
    }
}

#[test]
fn a_storm_of_expired_deadlines_is_honest_and_a_flood_of_resets_is_not() {
    let reset = |call: u32| {
        let stream = 2 * call + 1;
        [opened(stream), frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let mut filter = client();
    for call in 0..8_000 {
        feed(&mut filter, &reset(call)).unwrap();
    }
    let refused = (8_000..100_000).find_map(|call| feed(&mut filter, &reset(call)).err());
    assert_eq!(refused, Some(Violation::Resets));
    let last_words = filter.farewell(Violation::Resets);
    assert_eq!(heads(&last_words)[0].kind, kind::GOAWAY);
    assert!(last_words.ends_with(b"too_many_resets"));

    // The same by errors that make us reset the stream.
    let mut filter = client();
    let refused = (0..100_000).find_map(|call| {
        let ours = frame(kind::RST_STREAM, 0, 2 * call + 1, &[0, 0, 0, 1]);
        filter.sent(&[IoSlice::new(&ours)], ours.len());
        feed(&mut filter, &opened(2 * call + 3)).err()
    });
    assert_eq!(refused, Some(Violation::Resets));
}

#[test]
fn no_last_words_are_said_within_a_frame() {
    let mut filter = client();
    let answer = frame(kind::DATA, 0, 1, b"answer");
    filter.sent(&[IoSlice::new(&answer)], 12);
    assert!(filter.farewell(Violation::Resets).is_empty());
    filter.sent(&[IoSlice::new(&answer[12..])], answer.len() - 12);
    assert!(!filter.farewell(Violation::Resets).is_empty());
}

#[test]
fn headers_after_the_end_of_a_stream_are_dropped_or_made_an_error_of_that_stream() {
    let ended = |block: &[u8]| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, block);
    let reset = frame(kind::RST_STREAM, 0, 1, &[0; 4]);
    let mut filter = Filter::upstream(Rc::default());
    let answer = [ended(&[0x88]), reset.clone(), ended(&[0x88])].concat();
    assert_eq!(feed(&mut filter, &answer).unwrap(), [ended(&[0x88]), reset].concat());
    // A block that enters the table must be decoded.
    let entering = [0x41, 1, b'v'];
    let seen = feed(&mut filter, &ended(&entering)).unwrap();
    assert_eq!(seen, frame(kind::HEADERS, flag::END_HEADERS, 1, &entering));
    // Other streams are not concerned.
    let other = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &[0x88]);
    assert_eq!(feed(&mut filter, &other).unwrap(), other);
}
