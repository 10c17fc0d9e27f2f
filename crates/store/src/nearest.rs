//! What somebody has meant who has mistyped a word.

/// The one of `names` that was probably meant: at most two slips, and most of it right.
pub fn nearest<'name>(words: &str, names: impl IntoIterator<Item = &'name str>) -> Option<&'name str> {
    names
        .into_iter()
        .map(|name| (distance(words, name), name))
        .filter(|(slips, _)| *slips <= 2 && slips * 2 <= words.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// Optimal string alignment: insertions, deletions, substitutions, and two neighbours swapped, each one slip.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = usize::from(a[i - 1] != b[j - 1]);
            let mut slips = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + substitution);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                slips = slips.min(before[j - 2] + 1);
            }
            row.push(slips);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_an_insertion_a_deletion_another_letter_or_two_that_changed_places() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("ca", "abc"), 3);
        for (words, meant) in [
            ("pakages", Some("packages")),
            ("mirorr", Some("mirror")),
            ("mirror", Some("mirror")),
            ("x", None),
            ("nothing-like-it", None),
        ] {
            assert_eq!(nearest(words, ["packages", "mirror", "suite"]), meant, "{words}");
        }
    }
}
