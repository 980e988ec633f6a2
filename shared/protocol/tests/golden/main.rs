//! The bytes on the wire, compared with files. `golden/README.md` explains the files, and when one
//! may be added.
//!
//! The tests read the bytes by the schema that the sources declare (`schema`, `tree`), and by no
//! other code under test. So they notice a renumbered field, and a message without a file.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails the test"
)]

/// Reader of a corpus.
mod corpus;

/// Messages that the sources declare.
mod schema;

/// Messages as trees of fields.
mod tree;

/// Known values of all messages.
mod values;

/// Tests with peers of other versions.
mod versions;

use std::collections::BTreeSet;

use bridge_protocol::domain::catalogue::EntityKind;
use bridge_protocol::domain::{Outcome, PaymentState, RefundState};
use bridge_protocol::wire::control::{CREDITS, Obstacle, Readiness};
use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX, FrameDecoder};
use bridge_protocol::wire::lane::Lane;
use bridge_protocol::wire::order::{Refusal, Refused};
use bridge_protocol::wire::tcp::{ANCHOR_PREAMBLE, LINK_KEY_BYTES, LinkKey, Opening, lane_opening};
use bridge_protocol::wire::{feed, payment, version};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::schema::Schema;
use crate::tree::{Node, Value};

/// Every corpus: protocol version, folder, and the digest of its list of digests. A corpus is never
/// edited. New messages and fields get a new folder.
const CORPORA: [(u32, &str, &str); 7] = [
    (1, "v1", "931a63a2d47987dd4f63b8faebe2e8df13103f3411ce1ea6e61b547b453ca896"),
    (1, "v1.1", "9ca339d029918a4d791c11cfcc04738bab4be694fcb2f34aab498c2765c566b1"),
    (1, "v1.2", "4f4c840a9f485a8db8b05729ef5e06dab160e7f49ccae7d29897ddbe23fb3e63"),
    (1, "v1.3", "2b449938249aec217c512732fda8a3025948f428e7d21ac180c3b91dad972004"),
    (1, "v1.4", "3356f549a676bf621a103d70faad9e870d51b625aa61a82465502317117b3166"),
    (1, "v1.5", "e92fb109341600966460c61b28578f6d82e8152c43c2613d38e5e8ff098cadc4"),
    (1, "v1.6", "a4fd646f1724a4320c1ff442393ccb086ff2af06b2fecc37abc8244bf63b17bc"),
];

/// Files of a corpus that have no message.
const NO_MESSAGES: [&str; 7] = [
    "codes.txt",
    "entity-kinds.txt",
    "frame.txt",
    "lanes.txt",
    "obstacles.txt",
    "refusals.txt",
    "tcp-openings.txt",
];

#[test]
fn every_version_that_is_spoken_has_a_corpus() {
    let spoken: Vec<_> = (version::OLDEST..=version::NEWEST).collect();
    let versions: BTreeSet<_> = CORPORA.iter().map(|(version, _, _)| *version).collect();
    assert!(spoken.iter().all(|version| versions.contains(version)), "{spoken:?} are spoken");
}

#[test]
fn every_message_is_written_and_read_as_the_corpus_has_it() {
    let schema = Schema::read();
    let mut missing = String::new();
    for known in values::all() {
        let Ok(text) = std::fs::read_to_string(corpus::path(&known.name)) else {
            let nodes = tree::read(&schema, known.message, &known.written);
            let shown = corpus::show(&schema, known.message, &nodes);
            missing.push_str(&format!("==> {}.txt <==\n# {}\n\n{shown}", known.name, known.message));
            continue;
        };
        let golden = corpus::message(&text);
        assert_eq!(known.written, golden, "{} is written with other bytes", known.name);
        assert_eq!((known.reads_as_this)(&golden), Ok(()), "{}", known.name);
    }
    assert!(missing.is_empty(), "the corpus lacks these messages:\n{missing}");
}

#[test]
fn every_file_of_the_corpus_is_known_here() {
    let known: BTreeSet<_> = values::all().into_iter().map(|known| format!("{}.txt", known.name)).collect();
    let found = CORPORA.iter().flat_map(|(_, folder, _)| {
        corpus::files(folder).into_keys().map(move |file| (format!("{folder}/{file}"), file))
    });
    let messages = found.filter(|(_, file)| !NO_MESSAGES.contains(&file.as_str()));
    assert_eq!(messages.map(|(path, _)| path).collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_field_of_every_message_is_in_the_corpus() {
    let schema = Schema::read();
    let mut seen = BTreeSet::new();
    for known in values::all() {
        let nodes = tree::read(&schema, known.message, &corpus::read(&known.name));
        note(known.message, &nodes, &mut seen);
    }
    let mut declared = BTreeSet::new();
    for (message, fields) in schema.messages() {
        declared.insert((message.to_owned(), 0));
        declared.extend(fields.iter().map(|field| (message.to_owned(), field.tag)));
    }
    let unseen: Vec<_> = declared.difference(&seen).collect();
    assert!(unseen.is_empty(), "the corpus lacks these messages (0) and fields: {unseen:?}");
    let gone: Vec<_> = seen.difference(&declared).collect();
    assert!(gone.is_empty(), "the sources lack these, which were on the wire: {gone:?}");
    assert!(declared.len() > 150, "only {} messages and fields were found in the sources", declared.len());
}

fn note(message: &str, nodes: &[Node], seen: &mut BTreeSet<(String, u32)>) {
    seen.insert((message.to_owned(), 0));
    for node in nodes {
        seen.insert((message.to_owned(), node.tag));
        if let Value::Message(name, within) = &node.value {
            note(name, within, seen);
        }
    }
}

#[test]
fn a_closed_corpus_is_never_edited() {
    for (_, folder, expected) in CORPORA {
        let files = corpus::files(folder);
        let found: String = files.iter().map(|(file, text)| format!("{}  {file}\n", digest(text))).collect();
        let list = std::fs::read_to_string(corpus::path(&format!("{folder}/digests"))).unwrap_or_default();
        assert_eq!(list, found, "the files of {folder} are not those of its digests.txt");
        assert_eq!(digest(&list), expected, "the digests of {folder} were edited, and it is closed");
    }
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the lines of the files of this name in all corpora: bytes and their meaning.
fn table(name: &str) -> Vec<(Vec<u8>, String)> {
    texts(name)
        .iter()
        .flat_map(|text| corpus::lines(text))
        .map(|(bytes, meaning)| (bytes, meaning.to_owned()))
        .collect()
}

fn texts(name: &str) -> Vec<String> {
    CORPORA.iter().filter_map(|(_, folder, _)| corpus::files(folder).remove(name)).collect()
}

#[test]
fn every_lane_opens_as_the_corpus_has_it() {
    let named = |lane: &str| match lane {
        "control" => Lane::Control,
        "feed" => Lane::Feed,
        "payments" => Lane::Payment,
        order => Lane::Order(order.strip_prefix("orders ").unwrap().parse().unwrap()),
    };
    for (bytes, lane) in table("lanes.txt") {
        let preamble = named(&lane).preamble();
        assert_eq!(bytes, preamble, "{lane}");
        assert_eq!(Lane::from_preamble(preamble), Ok(named(&lane)));
    }
}

#[test]
fn every_tcp_connection_opens_as_the_corpus_has_it() {
    let lane = lane_opening(Lane::Order(3), LinkKey([0xab; LINK_KEY_BYTES]));
    let opened = [(ANCHOR_PREAMBLE.to_vec(), "anchor"), (lane.to_vec(), "orders 3")];
    assert_eq!(table("tcp-openings.txt"), opened.map(|(bytes, meaning)| (bytes, meaning.to_owned())));
    for ((bytes, _), expected) in
        table("tcp-openings.txt").iter().zip([Opening::Anchor, Opening::Lane(Lane::Order(3))])
    {
        assert_eq!(Opening::from_bytes(*bytes.first_chunk().unwrap()), Ok(expected));
    }
}

#[test]
fn a_frame_is_cut_out_as_the_corpus_has_it() {
    let bytes = corpus::read("v1/frame");
    let mut decoder = FrameDecoder::new(CONTROL_FRAME_BYTES_MAX);
    decoder.buffer_mut().extend_from_slice(&bytes);
    let heartbeat = decoder.next_frame().unwrap().unwrap();
    assert_eq!(heartbeat, corpus::read("v1/control-heartbeat"));
    let control: bridge_protocol::wire::control::Control = frame::decode(heartbeat).unwrap();
    assert_eq!(frame::to_bytes(&control, CONTROL_FRAME_BYTES_MAX).unwrap(), bytes);
}

#[test]
fn every_refusal_has_the_number_and_the_code_that_the_corpus_has() {
    let table = table("refusals.txt");
    for (number, (bytes, code)) in (1..).zip(&table) {
        let refused = Refused::decode(&bytes[..]).unwrap();
        assert_eq!(refused.refusal, number);
        assert_eq!(Refusal::try_from(refused.refusal).map(Refusal::code), Ok(code.as_str()));
        assert_eq!(refused.encode_to_vec(), *bytes);
    }
    let next = i32::try_from(table.len()).unwrap() + 1;
    assert!(Refusal::try_from(next).is_err(), "refusal {next} is not in the corpus");
}

#[test]
fn every_obstacle_has_the_number_and_the_code_that_the_corpus_has() {
    let table = table("obstacles.txt");
    for (number, (bytes, code)) in (0..).zip(&table) {
        let obstacle = Obstacle::try_from(number).unwrap();
        assert_eq!(obstacle.code(), code);
        let readiness = Readiness::decode(&bytes[..]).unwrap();
        assert_eq!(readiness.known(), [obstacle].into());
        assert_eq!(Readiness::of(&[obstacle].into()).encode_to_vec(), *bytes);
    }
    let next = i32::try_from(table.len()).unwrap();
    assert!(Obstacle::try_from(next).is_err(), "obstacle {next} is not in the corpus");
}

#[test]
fn every_kind_of_row_has_the_number_that_the_corpus_has() {
    let numbers: Vec<_> =
        EntityKind::ALL.iter().map(|kind| (vec![kind.number()], format!("{kind:?}"))).collect();
    assert_eq!(table("entity-kinds.txt"), numbers);
}

#[test]
fn every_code_and_feature_is_spelt_as_the_corpus_has_it() {
    let code = |kind: &str, code: &str| format!("{kind}: {code}");
    let mut spelt: BTreeSet<_> = Outcome::CODES.iter().map(|known| code("outcome", known)).collect();
    spelt.extend(PaymentState::ALL.iter().map(|state| code("payment", state.code())));
    spelt.extend(RefundState::ALL.iter().map(|state| code("refund", state.code())));
    spelt.extend([feed::FEATURE, payment::FEATURE, CREDITS].map(|known| code("feature", known)));
    let texts = texts("codes.txt");
    let lines = texts.iter().flat_map(|text| text.lines());
    let kept: BTreeSet<_> =
        lines.filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(kept, spelt);
}
