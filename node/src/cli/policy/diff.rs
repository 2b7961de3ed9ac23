//! In which lines two texts differ.

/// Pairs of lines that are compared at most; beyond, everything between the first and the last difference differs.
const PAIRS_MAX: usize = 4_000_000;

/// The lines that differ, in order: `-` and what is in `old`, `+` and what is in `new`; nothing when they are alike.
pub(super) fn lines(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[begin..], &new[begin..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    between(&old[..old.len() - end], &new[..new.len() - end])
}

fn between(old: &[&str], new: &[&str]) -> Vec<String> {
    let minus = |line: &&str| format!("-{line}");
    let plus = |line: &&str| format!("+{line}");
    if old.len().saturating_mul(new.len()) > PAIRS_MAX {
        return old.iter().map(minus).chain(new.iter().map(plus)).collect();
    }
    // How many lines what follows has in common, from each pair of lines on.
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            let skipped = common[a + 1][b].max(common[a][b + 1]);
            common[a][b] = if old[a] == new[b] { common[a + 1][b + 1] + 1 } else { skipped };
        }
    }
    let (mut a, mut b, mut lines) = (0, 0, Vec::new());
    while a < old.len() || b < new.len() {
        if a < old.len() && b < new.len() && old[a] == new[b] {
            (a, b) = (a + 1, b + 1);
        } else if b == new.len() || a < old.len() && common[a + 1][b] >= common[a][b + 1] {
            lines.push(minus(&old[a]));
            a += 1;
        } else {
            lines.push(plus(&new[b]));
            b += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_that_differ_are_shown_in_order() {
        for (old, new, expected) in [
            ("a\nb\nc\n", "a\nb\nc", &[][..]),
            ("a\nb\nc\n", "a\nx\nc\n", &["-b", "+x"]),
            ("", "a\nb\n", &["+a", "+b"]),
            ("a\nb\n", "", &["-a", "-b"]),
            ("a\nb\nc\nd\n", "b\nx\nd\ne\n", &["-a", "-c", "+x", "+e"]),
        ] {
            assert_eq!(lines(old, new), expected, "{old:?} {new:?}");
        }
        let long = |line: &str| format!("{line}\n").repeat(3000);
        assert_eq!(lines(&long("a"), &long("b")).len(), 6000);
    }
}
