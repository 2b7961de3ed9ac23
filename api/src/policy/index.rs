//! Which rule of many has an image, found by its host and the segments of its path.
//!
//! A tree of segments: literal ones are looked up, those with `*` by what they begin and end with, so that a rule
//! is looked at only when the image has that; rules that differ only between two stars are looked at one by one. Always holds: what is found is the first in rank of all rules
//! that match, and finding it takes steps of the rules that nearly match rather than of all. Never does: know what
//! a rule says.

use std::collections::{HashMap, HashSet};

use super::pattern::{Glob, ImagePattern, Segment};

/// Rules by what they match. A rule is known by its rank: the first wins.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// The first is where every image begins.
    places: Vec<Place>,
}

/// What may follow after the same segments.
#[derive(Clone, Debug, Default)]
struct Place {
    next: Globs<usize>,
    /// After `**`.
    any: Option<usize>,
    /// The rules whose segments end here: with a tag, and without.
    tagged: Globs<Vec<usize>>,
    untagged: Vec<usize>,
}

/// What globs have, found by a text that they stand for.
#[derive(Clone, Debug)]
pub(super) struct Globs<T> {
    literal: HashMap<Box<str>, T>,
    /// By how long the text before the first `*` and after the last one is.
    shapes: Vec<((usize, usize), Alike<T>)>,
}

/// Globs by these texts.
type Alike<T> = HashMap<(Box<str>, Box<str>), Vec<(Glob, T)>>;

impl<T> Default for Globs<T> {
    fn default() -> Self {
        Globs { literal: HashMap::new(), shapes: Vec::new() }
    }
}

impl<T> Globs<T> {
    /// What `glob` has, made if it has nothing.
    pub(super) fn entry(&mut self, glob: &Glob, make: impl FnOnce() -> T) -> &mut T {
        let text = glob.as_str();
        let (Some((begin, _)), Some((_, end))) = (text.split_once('*'), text.rsplit_once('*')) else {
            return self.literal.entry(text.into()).or_insert_with(make);
        };
        let shape = (begin.len(), end.len());
        let at = self.shapes.iter().position(|(known, _)| *known == shape).unwrap_or_else(|| {
            self.shapes.push((shape, HashMap::new()));
            self.shapes.len() - 1
        });
        let alike = self.shapes[at].1.entry((begin.into(), end.into())).or_default();
        let at = alike.iter().position(|(known, _)| known == glob).unwrap_or_else(|| {
            alike.push((glob.clone(), make()));
            alike.len() - 1
        });
        &mut alike[at].1
    }

    /// What all that stand for `text` have; `steps` grows by how many were looked at.
    pub(super) fn of<'g>(&'g self, text: &str, steps: &mut usize) -> Vec<&'g T> {
        *steps += 1 + self.shapes.len();
        let mut found: Vec<&T> = self.literal.get(text).into_iter().collect();
        for ((begin, end), alike) in &self.shapes {
            let Some(rest) = text.len().checked_sub(*end) else { continue };
            let (Some(begin), Some(end)) = (text.get(..*begin), text.get(rest..)) else { continue };
            let Some(alike) = alike.get(&(begin.into(), end.into())) else { continue };
            *steps += alike.len();
            found.extend(alike.iter().filter(|(glob, _)| glob.matches(text)).map(|(_, has)| has));
        }
        found
    }
}

impl Index {
    /// Patterns in the order of their rank.
    pub(super) fn new<'p>(ranked: impl Iterator<Item = &'p ImagePattern>) -> Index {
        let mut index = Index { places: vec![Place::default()] };
        for (rank, pattern) in ranked.enumerate() {
            let at = pattern.segments().iter().fold(0, |at, segment| index.step(at, segment));
            let place = &mut index.places[at];
            match pattern.tag() {
                Some(tag) => place.tagged.entry(tag, Vec::new).push(rank),
                None => place.untagged.push(rank),
            }
        }
        index
    }

    fn step(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.places.len();
        let place = &mut self.places[at];
        let next = match segment {
            Segment::Any => *place.any.get_or_insert(new),
            Segment::One(glob) => *place.next.entry(glob, || new),
        };
        if next == new {
            self.places.push(Place::default());
        }
        next
    }

    /// The first in rank of what has these segments and this tag.
    pub(super) fn find(&self, segments: &[&str], tag: Option<&str>) -> Option<usize> {
        self.search(segments, tag).best
    }

    fn search<'i>(&'i self, segments: &'i [&'i str], tag: Option<&'i str>) -> Search<'i> {
        let mut search = Search { index: self, segments, tag, best: None, seen: HashSet::new(), steps: 0 };
        search.place(0, 0);
        search
    }
}

struct Search<'i> {
    index: &'i Index,
    segments: &'i [&'i str],
    tag: Option<&'i str>,
    best: Option<usize>,
    /// Places after a `**` and where they were reached: more than one way may lead there.
    seen: HashSet<(usize, usize)>,
    steps: usize,
}

impl Search<'_> {
    /// What matches that has come to `place` with all segments before `at`.
    fn place(&mut self, place: usize, at: usize) {
        self.steps += 1;
        let here = &self.index.places[place];
        let Some(segment) = self.segments.get(at) else {
            return self.end(place);
        };
        for next in here.next.of(segment, &mut self.steps) {
            self.place(*next, at + 1);
        }
        let Some(any) = here.any else { return };
        // At the end of a pattern ** stands for at least one segment, and there is one.
        self.end(any);
        for after in at..self.segments.len() {
            if self.seen.insert((any, after)) {
                self.place(any, after);
            }
        }
    }

    fn end(&mut self, place: usize) {
        let here = &self.index.places[place];
        let tagged = self.tag.map(|tag| here.tagged.of(tag, &mut self.steps)).unwrap_or_default();
        let first = tagged.iter().flat_map(|ranks| ranks.first()).chain(here.untagged.first()).min();
        self.best = self.best.into_iter().chain(first.copied()).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: impl IntoIterator<Item = String>) -> Vec<ImagePattern> {
        let mut patterns: Vec<ImagePattern> = texts.into_iter().map(|text| text.parse().unwrap()).collect();
        patterns.sort_by_cached_key(ImagePattern::rank);
        patterns
    }

    /// What it takes to decide about an image, counted in what is looked at.
    #[test]
    fn a_thousand_rules_are_not_looked_at_one_by_one() {
        let shapes: [fn(usize) -> String; 6] = [
            |n| format!("registry-{n}.example/**"),
            |n| format!("quay.io/team-{n}/**"),
            |n| format!("docker.io/library/app-{n}-*"),
            |n| format!("*-{n}.example/**"),
            |n| format!("quay.io/acme/app:v{n}.*"),
            |n| format!("**/tail-{n}"),
        ];
        for shape in shapes {
            let patterns = patterns((0..1000).map(shape));
            let index = Index::new(patterns.iter());
            for name in [
                "registry-7.example/a",
                "quay.io/team-7/a/b",
                "docker.io/library/app-7-x",
                "x-7.example/a",
                "quay.io/acme/app",
                "a.io/b/tail-7",
            ] {
                let segments: Vec<&str> = name.split('/').collect();
                let search = index.search(&segments, Some("v7.1"));
                let by_looking = patterns.iter().position(|pattern| {
                    let tagged = pattern.tag().is_none_or(|tag| tag.matches("v7.1"));
                    let path = pattern.text().split(":v").next().unwrap_or_default();
                    tagged && path.parse::<crate::pattern::Pattern>().unwrap().matches(name)
                });
                assert_eq!(search.best, by_looking, "{} {name}", shape(0));
                assert!(search.steps < 60, "{} {name}: {}", shape(0), search.steps);
            }
        }
    }

    #[test]
    fn many_ways_through_a_pattern_are_gone_once() {
        let texts = (1..60).map(|stars| format!("{}/z", vec!["**/a"; stars].join("/")));
        let patterns = patterns(texts);
        let index = Index::new(patterns.iter());
        let name = vec!["a"; 120];
        let search = index.search(&name, None);
        assert_eq!(search.best, None);
        assert!(search.steps < 100_000, "{}", search.steps);
    }
}
