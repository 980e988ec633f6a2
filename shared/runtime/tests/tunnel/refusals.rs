//! Tests of refused peers. Each is counted under its reason. One log line names the peer and says
//! what to do.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bridge_certs::{Ca, Issued};
use bridge_protocol::domain::identity::Role;
use bridge_runtime::telemetry::metrics::RefusalReason;
use bridge_runtime::tunnel::{LinkEnd, TunnelEvent};
use rustls::crypto::aws_lc_rs::kx_group::X25519;

use crate::agents::{Home, Log, RunningTunnel, ca, days, eventually, issue, span};
use crate::stranger::Stranger;

const HOUR: i64 = 3600;

/// Checks that a listening IDC agent refuses a stranger for this reason, in one line with these
/// words.
async fn listener_refuses(ca: &Ca, stranger: Stranger<'_>, reason: RefusalReason, words: &[&str]) {
    let agent = Home::new(ca, &issue(ca, Role::Idc, "here")).listening();
    refuses(agent, stranger, reason, words).await;
}

async fn refuses(agent: Home, stranger: Stranger<'_>, reason: RefusalReason, words: &[&str]) {
    let log = Log::capture();
    let agent = agent.start(Role::Idc);
    if let Some(connection) = stranger.dial(agent.address()).await {
        connection.end().await;
    }
    agent.refusal(reason).await;
    let lines = log.lines(&["WARN", "refused a peer", "address=127.0.0.1:"]);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for word in words.iter().chain(&[format!("reason={reason:?}").as_str()]) {
        assert!(lines[0].contains(word), "{word:?} in {}", lines[0]);
    }
    assert!(agent.handle.status().is_empty());
}

/// Checks that a dialling cloud agent refuses a stranger that listens.
async fn dialler_refuses(ca: &Ca, stranger: Stranger<'_>, reason: RefusalReason, words: &[&str]) {
    let log = Log::capture();
    let address = stranger.listen().await;
    let home = Home::new(ca, &issue(ca, Role::Cloud, "here")).dialling(address);
    let agent = home.start(Role::Cloud);
    agent.refusal(reason).await;
    agent.handle.close().await;
    let lines = log.lines(&["WARN", "refused a peer"]);
    assert_eq!(lines.len() as u64, agent.refused(reason), "each refusal has one line: {lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} in {}", lines[0]);
    }
}

fn unchecked(ca: &Ca, uri: &str) -> Issued {
    ca.issue_unchecked(Some(uri), days(30)).unwrap()
}

fn lasting(ca: &Ca, from: i64, to: i64) -> Issued {
    ca.issue(Role::Cloud, "there", span(from, to)).unwrap()
}

pub(crate) async fn a_peer_of_the_same_role_is_refused() {
    let ca = ca();
    let peer = issue(&ca, Role::Idc, "there");
    let words = ["peer=\"spiffe://bridge.test/idc/there\"", "this is spiffe://bridge.test/idc/here"];
    listener_refuses(&ca, Stranger::with(&peer), RefusalReason::WrongRole, &words).await;
    let peer = issue(&ca, Role::Cloud, "there");
    dialler_refuses(
        &ca,
        Stranger::with(&peer),
        RefusalReason::WrongRole,
        &["spiffe://bridge.test/cloud/there"],
    )
    .await;
}

pub(crate) async fn a_peer_of_another_ca_is_refused() {
    let (ours, theirs) = (ca(), ca());
    let words = ["not from the CA that is trusted here", "compare tunnel.ca"];
    listener_refuses(
        &ours,
        Stranger::with(&issue(&theirs, Role::Cloud, "there")),
        RefusalReason::UnknownCa,
        &words,
    )
    .await;
    dialler_refuses(
        &ours,
        Stranger::with(&issue(&theirs, Role::Idc, "there")),
        RefusalReason::UnknownCa,
        &words,
    )
    .await;
}

pub(crate) async fn an_expired_certificate_is_refused_with_both_clocks_in_the_line() {
    let ca = ca();
    let words = ["was valid until", "the clock here says", "bridge-certs renew", "cloud/there"];
    let peer = lasting(&ca, -2 * HOUR, -HOUR);
    listener_refuses(&ca, Stranger::with(&peer), RefusalReason::Expired, &words).await;
    let peer = ca.issue(Role::Idc, "there", span(-2 * HOUR, -HOUR)).unwrap();
    dialler_refuses(&ca, Stranger::with(&peer), RefusalReason::Expired, &["idc/there"]).await;
}

pub(crate) async fn a_certificate_of_tomorrow_is_refused_with_both_clocks_in_the_line() {
    let ca = ca();
    let peer = lasting(&ca, HOUR, 2 * HOUR);
    let words = ["is valid from", "the clock here says", "set the clock"];
    listener_refuses(&ca, Stranger::with(&peer), RefusalReason::NotYetValid, &words).await;
}

pub(crate) async fn a_revoked_certificate_is_refused_and_named() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening();
    home.revoke(&ca, 2, &[&peer]);
    refuses(
        home,
        Stranger::with(&peer),
        RefusalReason::Revoked,
        &["is revoked", "bridge-certs issue", "cloud/there"],
    )
    .await;
}

pub(crate) async fn nobody_is_trusted_under_a_revocation_list_that_is_too_old() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening();
    fs::write(&home.config.crl, ca.sign_crl(2, &[], span(-2 * HOUR, -HOUR)).unwrap()).unwrap();
    let words = ["was good until", "the clock here says", "tunnel.crl"];
    refuses(home, Stranger::with(&peer), RefusalReason::StaleCrl, &words).await;
}

pub(crate) async fn nobody_is_trusted_under_the_revocation_list_of_another_ca() {
    let (ca, other) = (ca(), ca());
    let peer = issue(&ca, Role::Cloud, "there");
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening();
    home.revoke(&other, 2, &[]);
    refuses(home, Stranger::with(&peer), RefusalReason::StaleCrl, &["not from its CA", "tunnel.crl"]).await;
}

pub(crate) async fn a_peer_without_a_certificate_is_refused() {
    let (ca, peer) = (ca(), ca().issue_unchecked(None, days(1)).unwrap());
    let stranger = Stranger { certificate: None, ..Stranger::with(&peer) };
    let words = ["shows no certificate", "bridge-certs issue", "peer=\"unknown\""];
    listener_refuses(&ca, stranger, RefusalReason::NoCertificate, &words).await;
}

pub(crate) async fn a_peer_that_speaks_another_protocol_is_refused() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let stranger = Stranger { alpn: b"h3", ..Stranger::with(&peer) };
    listener_refuses(&ca, stranger, RefusalReason::ForeignProtocol, &["ALPN bridge/1", "address and port"])
        .await;
}

pub(crate) async fn a_key_exchange_without_ml_kem_is_refused() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let stranger = Stranger { group: X25519, ..Stranger::with(&peer) };
    listener_refuses(&ca, stranger, RefusalReason::NoCommonGroup, &["X25519MLKEM768", "tunnel.post_quantum"])
        .await;
}

pub(crate) async fn a_certificate_that_names_no_agent_is_refused() {
    let ca = ca();
    let none = ca.issue_unchecked(None, days(30)).unwrap();
    listener_refuses(&ca, Stranger::with(&none), RefusalReason::BadCertificate, &["no SPIFFE ID"]).await;
    let other = unchecked(&ca, "https://bridge.test/cloud/there");
    listener_refuses(&ca, Stranger::with(&other), RefusalReason::BadCertificate, &["is not spiffe://"]).await;
}

pub(crate) async fn a_peer_of_another_trust_domain_is_refused() {
    let ca = ca();
    let peer = unchecked(&ca, "spiffe://other.test/cloud/there");
    listener_refuses(&ca, Stranger::with(&peer), RefusalReason::NotAllowed, &["another trust domain"]).await;
}

pub(crate) async fn a_peer_that_the_allow_list_does_not_name_is_refused() {
    let ca = ca();
    let peer = issue(&ca, Role::Cloud, "there");
    let home = Home::new(&ca, &issue(&ca, Role::Idc, "here")).listening();
    let home =
        home.with(|config| config.allow = vec!["spiffe://bridge.test/cloud/somewhere-else".to_owned()]);
    refuses(home, Stranger::with(&peer), RefusalReason::NotAllowed, &["is not in tunnel.allow"]).await;
}

pub(crate) async fn the_refused_side_says_why_as_well() {
    let (log, ca) = (Log::capture(), ca());
    let cloud = issue(&ca, Role::Cloud, "shop");
    let idc = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening();
    idc.revoke(&ca, 2, &[&cloud]);
    let idc = idc.start(Role::Idc);
    let cloud = Home::new(&ca, &cloud).dialling(idc.address()).start(Role::Cloud);
    cloud.refusal(RefusalReason::Revoked).await;
    idc.refusal(RefusalReason::Revoked).await;
    let lines = log.lines(&[
        "WARN",
        "the peer refused this agent",
        "reason=Revoked",
        "this agent's certificate is revoked",
    ]);
    assert!(!lines.is_empty());
}

pub(crate) async fn a_dialler_without_ml_kem_in_common_is_told_so() {
    let (log, ca) = (Log::capture(), ca());
    let peer = issue(&ca, Role::Idc, "there");
    let address = Stranger { group: X25519, ..Stranger::with(&peer) }.listen().await;
    let agent = Home::new(&ca, &issue(&ca, Role::Cloud, "here")).dialling(address).start(Role::Cloud);
    agent.refusal(RefusalReason::NoCommonGroup).await;
    assert!(!log.lines(&["the peer refused this agent", "X25519MLKEM768"]).is_empty());
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_told_of() {
    let (log, ca) = (Log::capture(), ca());
    // The address is bound and never answers. No other process can get its port.
    let silent = std::net::UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let home = Home::new(&ca, &issue(&ca, Role::Cloud, "here")).dialling(silent.local_addr().unwrap());
    let _agent = home.start(Role::Cloud);
    eventually("it is told of", || !log.lines(&["WARN", "cannot reach the peer", "no answer"]).is_empty())
        .await;
}

pub(crate) async fn revoking_a_live_links_certificate_closes_it_and_keeps_it_closed() {
    let ca = ca();
    let issued = issue(&ca, Role::Cloud, "shop");
    let mut idc = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening().start(Role::Idc);
    let mut cloud = Home::new(&ca, &issued).dialling(idc.address()).start(Role::Cloud);
    idc.up().await;
    cloud.up().await;
    let not_linked =
        |cloud: &RunningTunnel| cloud.handle.not_linked(Instant::now() + Duration::from_secs(60));
    assert_eq!(not_linked(&cloud), Vec::<String>::new());

    idc.home.revoke(&ca, 2, &[&issued]);
    idc.handle.reload_identity();
    let down = |event| match event {
        TunnelEvent::Down { why, .. } => Some(why),
        _ => None,
    };
    let why = idc.next(down).await;
    assert!(matches!(why, LinkEnd::Identity { reason: RefusalReason::Revoked, .. }), "{why:?}");
    let why = cloud.next(down).await;
    assert!(matches!(&why, LinkEnd::ByPeer(sentence) if sentence.contains("revoked")), "{why:?}");

    // The peer dials again, and the handshake refuses it now.
    eventually("the redialling peer is refused", || idc.refused(RefusalReason::Revoked) >= 2).await;
    let notes = not_linked(&cloud);
    assert!(notes.len() == 1 && notes[0].contains("revoked"), "{notes:?}");
    assert_eq!(cloud.handle.not_linked(Instant::now()), Vec::<String>::new(), "a restart is noted");
    assert!(idc.handle.status().is_empty());
}

pub(crate) async fn a_renewed_certificate_is_used_without_a_restart() {
    let ca = ca();
    let (old, new) = (issue(&ca, Role::Cloud, "shop"), issue(&ca, Role::Cloud, "shop"));
    let mut idc = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening().start(Role::Idc);
    let mut cloud = Home::new(&ca, &old).dialling(idc.address()).start(Role::Cloud);
    idc.up().await;
    cloud.up().await;

    fs::write(&cloud.home.config.certificate, &new.certificate_pem).unwrap();
    crate::agents::write_key(&cloud.home.config.key, &new.key_pem, 0o600);
    cloud.handle.reload_identity();
    idc.home.revoke(&ca, 2, &[&old]);
    idc.handle.reload_identity();
    idc.next(|event| matches!(event, TunnelEvent::Down { .. }).then_some(())).await;
    let up = idc.up().await;
    assert_eq!(up.peer.to_string(), "spiffe://bridge.test/cloud/shop");
}
