//! What one sentence says: concepts, how far negation and uncertainty reach, sides, places and measurements.
//!
//! The words that negate or doubt, and those that end what they reach, are the language's (`words.tsv`). A word reaches its
//! concept forwards ("no effusion") or backwards ("effusion is not seen"), over a list that "or" closes, and never over a
//! word that ends it ("but", "there is"). What could be read two ways is not read.

use super::{
    Certainty, Change, Composition, Marks, Measurement, Reading, Statement, Status, Understood,
    amounts::{categories, leads_number, measurements, recommendation},
    token::{Kind, Token, tokens},
};
use crate::{
    draft::{NormalStatement, Presence, Side, Size},
    lexicon::{Lexicon, Phrase, Role},
    vocabulary::{Concept, Place, Site},
};

/// A phrase found in the sentence: tokens `at..end`.
pub(super) struct Found<'l> {
    pub(super) at: usize,
    pub(super) end: usize,
    /// Past its last word: further than `end` where its words are torn apart.
    last: usize,
    pub(super) roles: &'l [Role],
}

impl Found<'_> {
    fn has(&self, wanted: impl Fn(&Role) -> bool) -> bool {
        self.roles.iter().any(wanted)
    }

    pub(super) fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// A part of the sentence between connecting words.
#[derive(Default, Clone)]
struct Chunk {
    mentions: Vec<usize>,
    sides: Vec<(usize, Side)>,
    sites: Vec<Site>,
    sizes: Vec<Size>,
    measurements: Vec<Measurement>,
    composition: Option<Composition>,
    change: Option<Change>,
    normal: bool,
}

struct Mention {
    concept: Concept,
    /// Whether one word names it, whose meaning may depend on the place.
    general: bool,
    at: usize,
    /// Past its last word.
    end: usize,
}

/// Tokens that may stand between the words of a concept: "the heart is mildly enlarged".
const GAP: usize = 3;

/// More concepts than any sentence names; one that has more is a list of words, and not read.
const CONCEPTS: usize = 24;

pub(super) fn read(sentence: &str, lexicon: &Lexicon) -> Reading {
    let tokens = tokens(sentence, lexicon);
    let found = phrases(&tokens, lexicon);
    let (measured, numbers) = measurements(&tokens, &found);
    let measured: Vec<(usize, Measurement)> = measured.into_iter().map(|(tokens, it)| (tokens.start, it)).collect();
    let mut reading = Reading::default();
    marks(&mut reading, &tokens, &found, sentence, lexicon);
    reading.marks.measurements = measured.iter().map(|(_, measurement)| measurement.clone()).collect();
    let (categories, category_tokens) = categories(&tokens, &found);
    reading.categories = categories;
    reading.recommendation = recommendation(&tokens, &found);
    let recommends = reading.recommendation.is_some();

    let mut covered = vec![false; tokens.len()];
    for phrase in &found {
        covered[phrase.at..phrase.end].iter_mut().for_each(|token| *token = true);
    }
    numbers.iter().chain(&category_tokens).for_each(|at| covered[*at] = true);
    let counted = |at: usize| at.checked_sub(1).is_some_and(|before| leads_number(&found, before));
    let unknown = tokens.iter().enumerate().any(|(at, token)| match token.kind {
        Kind::Comma | Kind::Semicolon | Kind::Colon | Kind::Date => false,
        Kind::Number(_) => !covered[at] && !counted(at),
        Kind::Dash => false,
        Kind::Word(..) | Kind::Question | Kind::Other(_) => !covered[at],
    });

    let mut mentions = mentions(&found);
    // "Hardware: all metalwork has been removed": the topic is no statement beside one of its own.
    if let [topic, _, ..] = mentions.as_slice()
        && tokens.get(topic.end).is_some_and(|token| token.kind == Kind::Colon)
    {
        mentions.remove(0);
    }
    if mentions.len() > CONCEPTS {
        return reading;
    }
    reading.marks.side_clash = parts(&tokens, &found, &mentions, &measured).iter().any(|part| {
        let has = |side| part.sides.iter().any(|(_, it)| *it == side);
        has(Side::Left) && has(Side::Right) && part.mentions.len() <= 1
    });
    reading.marks.normal_study = normal_study(&tokens, &found).filter(|_| mentions.is_empty() && !unknown);
    let (mut statements, ambiguous) = state(&tokens, &found, &mentions, &measured);
    if recommends {
        // "CT is recommended if pneumonia is suspected" says nothing of the images.
        statements.iter_mut().for_each(|statement| statement.status = Status::Question);
    }
    // "No change since the last study" says something, if nothing of its own.
    let says_something = reading.marks.compares
        || !mentions.is_empty()
        || !statements.is_empty()
        || recommends
        || reading.marks.normal_study.is_some()
        || !reading.categories.is_empty();
    reading.statements = statements;
    reading.understood = match (says_something, unknown || ambiguous) {
        (true, false) => Understood::Whole,
        (true, true) => Understood::Part,
        (false, _) => Understood::Nothing,
    };
    reading
}

/// What a sentence says of the whole study that says nothing else: "Normal chest radiograph.", "No acute abnormality."
fn normal_study(tokens: &[Token], found: &[Found<'_>]) -> Option<NormalStatement> {
    let stated = found.iter().flat_map(|phrase| phrase.roles).find_map(|role| match role {
        Role::NormalStudy(statement) => Some(*statement),
        _ => None,
    });
    let names_study = found.iter().any(|phrase| phrase.has(|role| matches!(role, Role::Study | Role::Modality(_))));
    let only_words = tokens.len() <= 1;
    let normal = found.iter().any(|phrase| phrase.is(Role::Normal));
    let light = |role: &Role| {
        matches!(
            role,
            Role::NormalStudy(_)
                | Role::Normal
                | Role::Study
                | Role::Modality(_)
                | Role::Action(_)
                | Role::Filler
                | Role::Affirm
        )
    };
    let nothing_else = found.iter().all(|phrase| phrase.has(light) || phrase.roles.is_empty())
        && !tokens.iter().any(|token| matches!(token.kind, Kind::Comma | Kind::Semicolon | Kind::Colon));
    let statement = stated.or((normal && (names_study || only_words)).then_some(NormalStatement::NoAbnormality));
    statement.filter(|_| nothing_else)
}

/// Finds the phrases: concepts first, whose words may be torn apart, then the longest of everything else.
fn phrases<'l>(tokens: &[Token], lexicon: &'l Lexicon) -> Vec<Found<'l>> {
    let mut taken: Vec<Option<usize>> = vec![None; tokens.len()];
    let mut found: Vec<Found<'l>> = Vec::new();
    let is_concept = |phrase: &&Phrase| phrase.roles.iter().any(|role| matches!(role, Role::Concept(_)));
    let is_gap = |token: &Token| {
        let light = |role: &Role| {
            matches!(
                role,
                Role::Filler | Role::Size(_) | Role::Side(_) | Role::Affirm | Role::Aspect | Role::Descriptor
            )
        };
        let mut single = lexicon.beginning(token.forms()).filter(|phrase| phrase.words.len() == 1);
        let joins =
            |word: &str| matches!(word, "of" | "from" | "in" | "on" | "at" | "for" | "to" | "by" | "von" | "im" | "am");
        single.any(|phrase| phrase.roles.iter().any(light)) && !token.word().is_some_and(joins)
            || token.word() == Some("not")
    };
    for at in 0..tokens.len() {
        if taken[at].is_some() {
            continue;
        }
        let candidates = lexicon.beginning(tokens[at].forms()).filter(is_concept);
        let matched = candidates.filter_map(|phrase| {
            let words = matching(tokens, &taken, at, &phrase.words, is_gap)?;
            Some((phrase, words))
        });
        if let Some((phrase, words)) = matched.max_by_key(|(_, words)| words.len()) {
            for word in &words {
                taken[*word] = Some(found.len());
            }
            let last = words.last().map_or(at, |word| *word) + 1;
            found.push(Found { at, end: at + 1, last, roles: &phrase.roles });
            for word in &words[1..] {
                // The words of a torn phrase are covered each for itself.
                found.push(Found { at: *word, end: word + 1, last: word + 1, roles: &[] });
            }
        }
    }
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].kind == Kind::Question {
            found.push(Found { at, end: at + 1, last: at + 1, roles: &[Role::Asked] });
        }
        if taken[at].is_some() {
            at += 1;
            continue;
        }
        let candidates = lexicon
            .beginning(tokens[at].forms())
            .filter(|phrase| matching(tokens, &taken, at, &phrase.words, |_| false).is_some());
        // The longest; of equally long ones the first, which has the word as it stands and not a stem of it.
        match candidates.reduce(|best, it| if it.words.len() > best.words.len() { it } else { best }) {
            Some(phrase) => {
                let end = at + phrase.words.len();
                found.push(Found { at, end, last: end, roles: &phrase.roles });
                at += phrase.words.len();
            }
            None => at += 1,
        }
    }
    let covered: Vec<bool> = (0..tokens.len()).map(|at| found.iter().any(|it| it.at <= at && at < it.end)).collect();
    for (at, token) in tokens.iter().enumerate().filter(|(at, _)| !covered[*at]) {
        if token.word().is_some_and(|word| lexicon.looks_like_cue(word)) {
            found.push(Found { at, end: at + 1, last: at + 1, roles: &[Role::Cue] });
        }
    }
    found.sort_by_key(|phrase| phrase.at);
    found
}

/// The tokens of a phrase that begins at `at`; nothing when it is not there.
fn matching(
    tokens: &[Token],
    taken: &[Option<usize>],
    at: usize,
    words: &[&'static str],
    is_gap: impl Fn(&Token) -> bool,
) -> Option<Vec<usize>> {
    let mut places = vec![at];
    let mut next = at + 1;
    for word in &words[1..] {
        let mut gap = 0;
        loop {
            let token = tokens.get(next).filter(|_| taken[next].is_none())?;
            if token.forms().contains(word) {
                break;
            }
            gap += 1;
            if gap > GAP || !is_gap(token) {
                return None;
            }
            next += 1;
        }
        places.push(next);
        next += 1;
    }
    Some(places)
}

fn mentions(found: &[Found<'_>]) -> Vec<Mention> {
    let concept = |phrase: &Found<'_>| {
        phrase.roles.iter().find_map(|role| if let Role::Concept(concept) = role { Some(*concept) } else { None })
    };
    let mention = |phrase: &Found<'_>| {
        let general = phrase.last == phrase.at + 1;
        Some(Mention { concept: concept(phrase)?, general, at: phrase.at, end: phrase.last })
    };
    found.iter().filter_map(mention).collect()
}

fn marks(reading: &mut Reading, tokens: &[Token], found: &[Found<'_>], sentence: &str, lexicon: &Lexicon) {
    let marks: &mut Marks = &mut reading.marks;
    // "Hypoechoic lesion" names a concept, and the modality that shows it so.
    for phrase in tokens.iter().flat_map(|token| lexicon.beginning(token.forms())).filter(|it| it.words.len() == 1) {
        let modality = |role: &Role| if let Role::Modality(modality) = role { Some(*modality) } else { None };
        marks.modalities.extend(phrase.roles.iter().filter_map(modality));
    }
    let mut side = None;
    for phrase in found {
        for role in phrase.roles {
            match role {
                Role::Change(_) | Role::Prior => marks.compares = true,
                Role::NoPrior => marks.no_prior = true,
                Role::Modality(modality) => marks.modalities.push(modality),
                Role::Side(it) => {
                    side = Some(*it);
                    marks.left |= *it == Side::Left;
                    marks.right |= *it == Side::Right;
                }
                Role::Site(site) => marks.sites.push((*site, side)),
                Role::Signature => marks.signature = true,
                Role::Title => {
                    // "Dr Smith", not "the doctor".
                    let next = tokens.get(phrase.end).map(|token| &sentence[token.range.clone()]);
                    marks.title |= next.is_some_and(|word| word.starts_with(char::is_uppercase));
                }
                Role::Identity => marks.identity = true,
                Role::Telephone => {
                    marks.telephone |= tokens[phrase.end..].iter().take(4).any(|token| token.number().is_some());
                }
                Role::OtherPatient => marks.other_patient = true,
                Role::Instruction => marks.instruction = true,
                Role::Machine => marks.machine = true,
                Role::Aspect => marks.aspect = true,
                Role::Further => marks.further = true,
                Role::Hypothetical | Role::HypotheticalAfter | Role::Asked | Role::Recommend => marks.asks = true,
                _ => {}
            }
        }
        if phrase.has(|role| matches!(role, Role::And | Role::Or | Role::With | Role::Terminate)) {
            side = None;
        }
    }
    marks.dates = tokens.iter().filter(|token| token.kind == Kind::Date).count();
    let last = tokens.len().checked_sub(1);
    marks.breaks_off = last.is_some_and(|last| {
        let hanging = |role: &Role| {
            matches!(
                role,
                Role::And
                    | Role::Or
                    | Role::With
                    | Role::NegationBefore
                    | Role::PossibleBefore
                    | Role::Measure
                    | Role::Prior
            )
        };
        let ends = found.iter().rfind(|phrase| phrase.end == last + 1);
        let word = tokens[last].word().is_some_and(|it| {
            matches!(
                it,
                "the"
                    | "a"
                    | "an"
                    | "of"
                    | "in"
                    | "to"
                    | "is"
                    | "are"
                    | "der"
                    | "die"
                    | "das"
                    | "im"
                    | "ist"
                    | "left"
                    | "right"
            )
        });
        matches!(tokens[last].kind, Kind::Comma | Kind::Number(_)) || word || ends.is_some_and(|it| it.has(hanging))
    });
}

/// One statement for each concept, and whether something could be read two ways.
fn state(
    tokens: &[Token],
    found: &[Found<'_>],
    mentions: &[Mention],
    measured: &[(usize, Measurement)],
) -> (Vec<Statement>, bool) {
    let chunks = chunks(tokens, found, mentions, measured);
    let mut ambiguous = false;
    let mut statements = Vec::new();
    let scopes = Scopes { tokens, found, mentions };
    for chunk in &chunks {
        for (number, mention) in chunk.mentions.iter().enumerate() {
            let reach = scopes.of(*mention);
            ambiguous |= reach.ambiguous;
            ambiguous |= reach.cued;
            if reach.ambiguous {
                continue;
            }
            let at = mentions[*mention].at;
            let side = side_of(chunk, number, at, mentions);
            let places = found.iter().flat_map(|phrase| phrase.roles).filter_map(|role| match role {
                Role::Site(site) => Some(*site),
                _ => None,
            });
            let of_clause = chunk.sites.iter().copied();
            let Mention { concept, general, .. } = mentions[*mention];
            let concept = if general { concept.beside(of_clause.chain(places)) } else { concept };
            // "Left enlarged heart" names no side of a heart, "left or right" none at all, and two names side by side
            // do not say which of them it is.
            let midline = concept.row().own && concept.row().place == Place::Nowhere && side.is_some();
            if midline || scopes.has_sides_apart(chunk) || scopes.is_beside_another(*mention) {
                ambiguous = true;
                continue;
            }
            let resolved = chunk.change == Some(Change::Resolved);
            let certainty = if reach.unlikely && !reach.absent { Certainty::Probable } else { reach.certainty };
            statements.push(Statement {
                concept,
                presence: if reach.absent || reach.unlikely || resolved { Presence::Absent } else { Presence::Present },
                certainty,
                side,
                sites: places_of(concept, chunk),
                size: chunk.sizes.first().copied().filter(|_| chunk.sizes.len() == 1),
                measurements: if number == 0 { chunk.measurements.clone() } else { Vec::new() },
                change: chunk.change,
                composition: chunk.composition,
                status: reach.status,
                evidence: Vec::new(),
            });
        }
        if chunk.mentions.is_empty() && chunk.normal {
            let negated = found.iter().any(|phrase| phrase.is(Role::NegationBefore) && mentions.is_empty());
            ambiguous |= negated;
            statements.extend(normal(chunk).filter(|_| !negated));
        }
    }
    // A negating word that negates none of the concepts negates something else: "the effusion is not small".
    ambiguous |= scopes.has_dangling_negation() || scopes.has_modifier_of_nothing();
    (statements, ambiguous)
}

/// "The lungs are clear" is said of the lung.
fn places_of(concept: Concept, chunk: &Chunk) -> Vec<Site> {
    let mut sites = chunk.sites.clone();
    if concept.is("clear_lungs") && sites.is_empty() {
        sites.extend(Site::named("lung"));
    }
    sites
}

fn normal(chunk: &Chunk) -> impl Iterator<Item = Statement> + use<'_> {
    let concept = Concept::named("normal_appearance");
    let side = chunk.sides.first().map(|(_, side)| *side).filter(|_| chunk.sides.len() == 1);
    chunk.sites.iter().filter_map(move |site| {
        Some(Statement {
            concept: concept?,
            presence: Presence::Present,
            certainty: Certainty::Certain,
            side,
            sites: vec![*site],
            size: None,
            measurements: chunk.measurements.clone(),
            change: chunk.change,
            composition: None,
            status: Status::Current,
            evidence: Vec::new(),
        })
    })
}

/// The side of a chunk's mention, never guessed: one side word counts for the first concept after it, or for the only one.
fn side_of(chunk: &Chunk, number: usize, at: usize, mentions: &[Mention]) -> Option<Side> {
    let (place, side) = *chunk.sides.first()?;
    if chunk.sides.iter().any(|(_, other)| *other != side) {
        return None;
    }
    if chunk.mentions.len() == 1 {
        return Some(side);
    }
    let first_after = chunk.mentions.iter().position(|mention| mentions[*mention].at > place);
    (first_after == Some(number) && place < at).then_some(side)
}

/// Cuts the sentence at connecting words; a part without a concept belongs to the one before it, the first to the next.
fn chunks(
    tokens: &[Token],
    found: &[Found<'_>],
    mentions: &[Mention],
    measured: &[(usize, Measurement)],
) -> Vec<Chunk> {
    let parts = parts(tokens, found, mentions, measured);
    // "The liver, spleen and pancreas are normal": what is said at the end holds for the list.
    if mentions.is_empty() {
        return vec![parts.into_iter().fold(Chunk::default(), merge)];
    }
    let mut merged: Vec<Chunk> = Vec::new();
    let mut waiting = Chunk::default();
    for chunk in parts {
        let own = !chunk.mentions.is_empty() || chunk.normal && !chunk.sites.is_empty();
        match merged.last_mut() {
            _ if own => merged.push(merge(std::mem::take(&mut waiting), chunk)),
            Some(last) if !last.mentions.is_empty() => *last = merge(std::mem::take(last), chunk),
            _ => waiting = merge(waiting, chunk),
        }
    }
    merged
}

/// The parts between connecting words, as they stand.
fn parts(tokens: &[Token], found: &[Found<'_>], mentions: &[Mention], measured: &[(usize, Measurement)]) -> Vec<Chunk> {
    let mut cuts: Vec<usize> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token.kind, Kind::Comma | Kind::Semicolon | Kind::Colon) {
            cuts.push(at);
        }
    }
    let cuts_here = |role: &Role| {
        matches!(
            role,
            Role::And
                | Role::Or
                | Role::With
                | Role::Terminate
                | Role::NegationBefore
                | Role::PossibleBefore
                | Role::ProbableBefore
        )
    };
    cuts.extend(found.iter().filter(|phrase| phrase.has(cuts_here)).map(|phrase| phrase.at));
    cuts.sort_unstable();
    let part = |at: usize| cuts.partition_point(|cut| *cut <= at);
    let mut parts = vec![Chunk::default(); cuts.len() + 1];
    for (number, mention) in mentions.iter().enumerate() {
        parts[part(mention.at)].mentions.push(number);
    }
    for phrase in found {
        let chunk = &mut parts[part(phrase.at)];
        for role in phrase.roles {
            match role {
                Role::Side(side) => chunk.sides.push((phrase.at, *side)),
                Role::Site(site) if !chunk.sites.contains(site) => chunk.sites.push(*site),
                Role::Size(size) => chunk.sizes.push(*size),
                Role::Composition(composition) => chunk.composition = Some(*composition),
                Role::Change(change) => chunk.change = Some(*change),
                Role::Normal => chunk.normal = true,
                _ => {}
            }
        }
    }
    for (at, measurement) in measured {
        parts[part(*at)].measurements.push(measurement.clone());
    }
    parts
}

fn merge(mut first: Chunk, second: Chunk) -> Chunk {
    first.mentions.extend(second.mentions);
    first.sides.extend(second.sides);
    let new: Vec<Site> = second.sites.into_iter().filter(|site| !first.sites.contains(site)).collect();
    first.sites.extend(new);
    first.sizes.extend(second.sizes);
    first.measurements.extend(second.measurements);
    first.composition = first.composition.or(second.composition);
    first.change = first.change.or(second.change);
    first.normal |= second.normal;
    first
}

/// How far the words of negation and doubt reach.
struct Scopes<'a> {
    tokens: &'a [Token],
    found: &'a [Found<'a>],
    mentions: &'a [Mention],
}

#[derive(Default)]
struct Reach {
    absent: bool,
    unlikely: bool,
    certainty: Certainty,
    status: Status,
    ambiguous: bool,
    /// A word that could turn what is said reaches it, and nobody knows how.
    cued: bool,
}

/// Roles that deny, doubt, ask or date what they reach.
fn modifies(role: &Role) -> bool {
    matches!(
        role,
        Role::UnlikelyBefore
            | Role::UnlikelyAfter
            | Role::PossibleBefore
            | Role::PossibleAfter
            | Role::Versus
            | Role::ProbableBefore
            | Role::ProbableAfter
            | Role::HistoricalAfter
            | Role::Hypothetical
            | Role::HypotheticalAfter
            | Role::Asked
    )
}

impl Scopes<'_> {
    fn of(&self, number: usize) -> Reach {
        let mut reach = Reach::default();
        let at = self.mentions[number].at;
        let (mut before, mut after) = (0, 0);
        let end = self.mentions[number].end;
        for phrase in self.found {
            // "The heart is not enlarged."
            if phrase.at > at && phrase.at < end {
                before += usize::from(phrase.is(Role::NegationBefore));
                continue;
            }
            if phrase.at < at && !self.ends_between(phrase.end, at) && self.faces_forward(phrase) {
                let list = self.list_between(phrase.end, at);
                if phrase.is(Role::NegationBefore) {
                    match list {
                        List::None | List::Closed => before += 1,
                        List::Open => reach.ambiguous |= self.is_last_negation(phrase.at, at),
                    }
                }
                reach.unlikely |= phrase.is(Role::UnlikelyBefore);
                if phrase.is(Role::PossibleBefore) || phrase.is(Role::Versus) {
                    reach.certainty = Certainty::Possible;
                }
                if phrase.is(Role::ProbableBefore) && reach.certainty != Certainty::Possible {
                    reach.certainty = Certainty::Probable;
                }
                if phrase.is(Role::Historical) && reach.status == Status::Current {
                    match list {
                        List::None | List::Closed => reach.status = Status::History,
                        List::Open => reach.ambiguous = true,
                    }
                }
                if phrase.is(Role::Hypothetical) || phrase.is(Role::Asked) {
                    reach.status = Status::Question;
                }
            }
            if phrase.at > at
                && !self.ends_between(at + 1, phrase.at)
                && self.faces_backward(phrase)
                && !self.has_backward_between(at, phrase)
            {
                // "Shunt in place, hydrocephalus not seen": a comma alone does not carry what is said at the end to the start.
                let list = match self.list_between(at + 1, phrase.at) {
                    List::Closed if !self.is_joined(at + 1, phrase.at) => List::Open,
                    list => list,
                };
                let near = matches!(list, List::None | List::Closed);
                if phrase.is(Role::NegationAfter) {
                    match list {
                        List::None | List::Closed => after += 1,
                        List::Open => reach.ambiguous = true,
                    }
                }
                reach.unlikely |= phrase.is(Role::UnlikelyAfter) && near;
                if (phrase.is(Role::PossibleAfter) || phrase.is(Role::Versus)) && near {
                    reach.certainty = Certainty::Possible;
                }
                if phrase.is(Role::ProbableAfter) && near && reach.certainty != Certainty::Possible {
                    reach.certainty = Certainty::Probable;
                }
                if phrase.is(Role::HistoricalAfter) && near && reach.status == Status::Current {
                    reach.status = Status::History;
                }
                if phrase.is(Role::HypotheticalAfter) || phrase.is(Role::Asked) {
                    reach.status = Status::Question;
                }
                // What reaches back over a list that could end before may be said of all of it.
                reach.ambiguous |= !near && phrase.has(modifies);
            }
        }
        let cued = |phrase: &Found<'_>| {
            let (from, to) = if phrase.at < at { (phrase.end, at) } else { (at + 1, phrase.at) };
            phrase.roles == [Role::Cue] && !self.ends_between(from, to)
        };
        let dated = |token: &Token| token.kind == Kind::Date;
        let compares = self.found.iter().any(|it| it.has(|role| matches!(role, Role::Prior | Role::Change(_))));
        // "On the previous scan there was ascites."
        let of_earlier = self.found.iter().any(|it| it.is(Role::Past))
            && self.found.iter().any(|it| it.has(|role| matches!(role, Role::Prior | Role::Historical)));
        if of_earlier || self.found.iter().any(cued) || !compares && self.tokens.iter().any(dated) {
            reach.cued = true;
            reach.status = if reach.status == Status::Current { Status::Question } else { reach.status };
        }
        // A new "no" in a list starts again: only the nearest counts, and it must be one.
        let nearest = self.negations_since_last_mention(number);
        reach.ambiguous |= nearest + after > 1;
        reach.absent = before + after > 0;
        // "Is not likely" and "no possible" deny a doubt, which could be read two ways.
        reach.ambiguous |= reach.absent && reach.unlikely;
        let asserts = !reach.absent && reach.certainty == Certainty::Certain && reach.status == Status::Current;
        reach.ambiguous |= asserts && self.is_alternative(number);
        reach
    }

    /// Whether a phrase that can do both modifies what follows it: "absent" before a concept does, at the end of its clause
    /// it does not.
    fn faces_forward(&self, phrase: &Found<'_>) -> bool {
        let both = phrase.has(|role| {
            matches!(role, Role::NegationAfter | Role::UnlikelyAfter | Role::PossibleAfter | Role::HistoricalAfter)
        });
        !both || self.has_more_in_clause(phrase.end)
    }

    /// As [`faces_forward`](Self::faces_forward), for what precedes it.
    fn faces_backward(&self, phrase: &Found<'_>) -> bool {
        let both = phrase.has(|role| {
            matches!(role, Role::NegationBefore | Role::UnlikelyBefore | Role::PossibleBefore | Role::Historical)
        });
        // A question mark asks what stands before it only where nothing follows.
        let asked = phrase.is(Role::Asked) && self.mentions.iter().any(|mention| mention.at > phrase.at);
        !asked && (!both || !self.has_more_in_clause(phrase.end))
    }

    /// Whether another word that reaches back stands between a concept and one: only the nearest is said of it.
    fn has_backward_between(&self, at: usize, phrase: &Found<'_>) -> bool {
        let reaches_back = |it: &Found<'_>| {
            it.has(|role| {
                matches!(
                    role,
                    Role::NegationAfter
                        | Role::UnlikelyAfter
                        | Role::PossibleAfter
                        | Role::ProbableAfter
                        | Role::HistoricalAfter
                        | Role::HypotheticalAfter
                )
            }) && self.faces_backward(it)
        };
        self.found.iter().any(|it| it.at > at && it.at < phrase.at && reaches_back(it))
    }

    /// Whether "and" or "or" stands between two tokens.
    fn is_joined(&self, from: usize, to: usize) -> bool {
        self.found.iter().any(|it| it.at >= from && it.at < to && it.has(|role| matches!(role, Role::And | Role::Or)))
    }

    /// Whether a concept or a place follows before the clause ends.
    fn has_more_in_clause(&self, from: usize) -> bool {
        let ends = |at: usize| {
            matches!(self.tokens[at].kind, Kind::Comma | Kind::Semicolon)
                || self.found.iter().any(|it| {
                    it.at == at && it.has(|role| matches!(role, Role::And | Role::Or | Role::With | Role::Terminate))
                })
        };
        let end = (from..self.tokens.len()).find(|at| ends(*at)).unwrap_or(self.tokens.len());
        let named = |role: &Role| matches!(role, Role::Concept(_) | Role::Site(_));
        self.found.iter().any(|it| it.at >= from && it.at < end && it.has(named))
    }

    /// Whether a word that doubts, asks or dates reaches none of the concepts: it is said of something unread.
    fn has_modifier_of_nothing(&self) -> bool {
        let forward = |role: &Role| {
            matches!(
                role,
                Role::UnlikelyBefore
                    | Role::PossibleBefore
                    | Role::ProbableBefore
                    | Role::Hypothetical
                    | Role::Asked
                    | Role::Versus
            )
        };
        let backward = |role: &Role| modifies(role) && (!forward(role) || matches!(role, Role::Asked | Role::Versus));
        let reaches = |phrase: &Found<'_>| {
            self.mentions.iter().any(|mention| {
                mention.at > phrase.at && phrase.has(forward) && !self.ends_between(phrase.end, mention.at)
                    || mention.at < phrase.at && phrase.has(backward) && !self.ends_between(mention.at + 1, phrase.at)
            })
        };
        !self.mentions.is_empty() && self.found.iter().any(|phrase| phrase.has(modifies) && !reaches(phrase))
    }

    /// Whether a word that ends what was said stands between two tokens.
    fn ends_between(&self, from: usize, to: usize) -> bool {
        self.tokens[from.min(to)..to].iter().any(|token| token.kind == Kind::Semicolon)
            || self.found.iter().any(|it| it.at >= from && it.at < to && it.is(Role::Terminate))
    }

    /// What joins the concepts between two tokens: nothing, a list that "or" closes, or one that could end before.
    fn list_between(&self, from: usize, to: usize) -> List {
        let inside = self.mentions.iter().filter(|mention| mention.at >= from && mention.at < to).count();
        if inside == 0 {
            return List::None;
        }
        let between = |phrase: &&Found<'_>| phrase.at >= from && phrase.at < to;
        let with = self.found.iter().filter(between).any(|phrase| phrase.is(Role::With));
        let is_and = |phrase: &Found<'_>| phrase.is(Role::And) && !phrase.is(Role::Or);
        let and = self.found.iter().filter(between).any(is_and);
        let or = self.found.iter().any(|phrase| phrase.at >= from && phrase.is(Role::Or));
        // "No effusion, small left nodule": a side or a size behind a comma or an "and" begins something new.
        let begins_anew = |phrase: &Found<'_>| {
            let joint = (from..phrase.at).rev().find_map(|at| {
                let joins = self.found.iter().find(|it| it.at == at && (it.is(Role::Or) || is_and(it)));
                match joins {
                    Some(joint) => Some(!joint.is(Role::Or)),
                    None => (self.tokens[at].kind == Kind::Comma).then_some(true),
                }
            });
            joint == Some(true)
        };
        let affirmed = self
            .found
            .iter()
            .filter(between)
            .any(|it| it.has(|role| matches!(role, Role::Side(_) | Role::Size(_))) && begins_anew(it));
        let affirmed_after = self.found.iter().any(|phrase| phrase.at >= to && phrase.is(Role::Affirm));
        let closed = or && !and || !affirmed_after;
        if !with && !affirmed && closed { List::Closed } else { List::Open }
    }

    fn is_last_negation(&self, negation: usize, at: usize) -> bool {
        !self.found.iter().any(|it| it.at > negation && it.at < at && it.is(Role::NegationBefore))
    }

    fn negations_since_last_mention(&self, number: usize) -> usize {
        let at = self.mentions[number].at;
        let since = number.checked_sub(1).map_or(0, |before| self.mentions[before].at);
        let between = |it: &&Found<'_>| it.at >= since && it.at < at && it.is(Role::NegationBefore);
        self.found.iter().filter(between).filter(|it| !self.ends_between(it.end, at)).count()
    }

    /// "Consolidation or mass": one of them, and not told which.
    fn is_alternative(&self, number: usize) -> bool {
        let joined = |a: usize, b: usize| {
            let (from, to) = (self.mentions[a].at, self.mentions[b].at);
            self.found.iter().any(|phrase| phrase.at > from && phrase.at < to && phrase.is(Role::Or))
                && !self.ends_between(from + 1, to)
        };
        number > 0 && joined(number - 1, number) || number + 1 < self.mentions.len() && joined(number, number + 1)
    }

    /// Left and right for one thing, without a word that says both.
    fn has_sides_apart(&self, chunk: &Chunk) -> bool {
        let has = |side| chunk.sides.iter().any(|(_, it)| *it == side);
        let joined = self.found.iter().any(|phrase| phrase.is(Role::And));
        has(Side::Left) && has(Side::Right) && !joined
    }

    fn is_beside_another(&self, number: usize) -> bool {
        let ends =
            |at: usize| self.found.iter().find(|phrase| phrase.at == at && !phrase.roles.is_empty()).map(|it| it.end);
        let beside = |a: usize, b: usize| ends(self.mentions[a].at) == Some(self.mentions[b].at);
        number > 0 && beside(number - 1, number) || number + 1 < self.mentions.len() && beside(number, number + 1)
    }

    fn has_dangling_negation(&self) -> bool {
        self.found.iter().filter(|phrase| phrase.is(Role::NegationBefore) && !phrase.is(Role::NegationAfter)).any(
            |phrase| {
                if self.mentions.iter().any(|mention| mention.at < phrase.at && phrase.at < mention.end) {
                    return false;
                }
                let first = self.mentions.iter().find(|mention| mention.at >= phrase.end);
                first.is_none_or(|mention| self.ends_between(phrase.end, mention.at))
            },
        ) && !self.mentions.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum List {
    None,
    Closed,
    Open,
}
