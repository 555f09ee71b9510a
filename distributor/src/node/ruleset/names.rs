//! Names and comments that `nft` accepts, whatever the objects of a cluster are called.

use std::fmt::Display;

use sidewall_policy::model::Direction;
use xxhash_rust::xxh3::xxh3_64;

use super::object::{Family, Name};

/// The longest comment that the kernel keeps is 127 bytes.
const LONGEST_COMMENT: usize = 120;

/// The longest piece of a name that comes from outside; a namespace has 63 characters at most.
const LONGEST_PIECE: usize = 63;

/// Sixteen letters and digits, equal for equal content.
pub(super) fn hash(content: &str) -> String {
    format!("{:016x}", xxh3_64(content.as_bytes()))
}

/// `PREFIX4` or `PREFIX6`.
pub(super) fn of_family(prefix: impl Display, family: Family) -> Name {
    let suffix = match family {
        Family::V4 => '4',
        Family::V6 => '6',
    };
    format!("{prefix}{suffix}").into()
}

/// The constant chain or map of a direction: `DIRECTION` or `DIRECTION_SUFFIX`.
pub(super) fn of_direction(direction: Direction, suffix: &str) -> Name {
    format!("{direction}{suffix}").into()
}

/// A piece of a name.
pub(super) fn piece(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().take(LONGEST_PIECE).map(legal).collect()
}

/// A comment, cut where it gets too long.
pub(super) fn comment(text: &str) -> Name {
    let legal = |c: char| match c {
        ' ' | ',' | '.' | ':' | '/' | '-' | '_' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => '?',
    };
    let mut comment: String = text.chars().take(LONGEST_COMMENT).map(legal).collect();
    if text.chars().nth(LONGEST_COMMENT).is_some() {
        comment.push_str("...");
    }
    comment.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_comment_can_end_it() {
        let hostile = "shop: a\"\n  accept\\ ; }";
        assert_eq!(&*comment(hostile), "shop: a??  accept? ? ?");
        assert_eq!(comment(&"x".repeat(300)).len(), LONGEST_COMMENT + 3);
    }

    #[test]
    fn a_piece_of_a_name_has_letters_and_digits_only() {
        assert_eq!(piece("kube-system"), "kube_system");
        assert_eq!(piece("a b\n}é"), "a_b___");
    }
}
