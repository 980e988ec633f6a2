//! Account that gives a command, as the log names it: `uid:1000/kim`, or `uid:1000/kim@officer`
//! with the login of the database that the command uses. The number comes from the kernel. The name
//! comes from the command's environment and is only a hint. The login comes from the database, by
//! the command.

use bridge_protocol::audit::entry::{Event, Word};
use rustix::process::getuid;

/// Returns the account of this process, with the name from its environment.
pub fn own() -> Word {
    account(getuid().as_raw(), &name())
}

/// Does the same as [`own`] with the login of the database that this command uses. It shows the
/// person if several people run the command as one user of the host.
pub fn own_with_login(login: Option<&str>) -> Word {
    let login = login.map(|login| format!("@{login}")).unwrap_or_default();
    account(getuid().as_raw(), &(name() + &login))
}

fn name() -> String {
    ["SUDO_USER", "USER"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

/// Sets the account in an event to the given user id. The name in the event is kept as a hint.
pub(super) fn given_by(event: Event, uid: u32) -> Event {
    match event {
        Event::PersonalShown(mut shown) => {
            shown.who = account(uid, hint(shown.who.as_str()));
            Event::PersonalShown(shown)
        }
        Event::PaymentResolved(mut resolved) => {
            resolved.who = account(uid, hint(resolved.who.as_str()));
            Event::PaymentResolved(resolved)
        }
        other => other,
    }
}

fn account(uid: u32, name: &str) -> Word {
    if name.is_empty() { Word::of(&format!("uid:{uid}")) } else { Word::of(&format!("uid:{uid}/{name}")) }
}

/// Returns the name in an account, or the whole text if it is no account.
fn hint(who: &str) -> &str {
    match who.strip_prefix("uid:") {
        Some(account) => account.split_once('/').map_or("", |(_, name)| name),
        None => who,
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::audit::entry::Shown;
    use bridge_protocol::domain::{OrderId, UnixMicros};

    use super::*;

    #[test]
    fn the_number_is_the_kernel_s_and_the_name_what_was_said() {
        let order = OrderId::new(UnixMicros::new(1), [1; 10]);
        for (said, logged) in [
            ("uid:1000/kim", "uid:7/kim"),
            ("uid:7/root", "uid:7/root"),
            ("uid:0", "uid:7"),
            ("uid:0/kim@officer", "uid:7/kim@officer"),
            ("uid:0/@officer", "uid:7/@officer"),
            ("uid:0/uid:0/kim", "uid:7/uid:0/kim"),
            ("kim", "uid:7/kim"),
            ("DOMAIN/kim", "uid:7/DOMAIN/kim"),
        ] {
            let shown = Shown { order, purpose: Word::of("ticket"), who: Word::of(said) };
            match given_by(Event::PersonalShown(shown), 7) {
                Event::PersonalShown(shown) => assert_eq!(shown.who.as_str(), logged, "{said}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(own_with_login(None), own());
        assert!(own_with_login(Some("officer")).as_str().ends_with("@officer"));
        assert!(own().as_str().starts_with(&format!("uid:{}", getuid().as_raw())));
    }
}
