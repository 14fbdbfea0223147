//! The advice on many verdicts alike, each line once.

use std::cmp::Reverse;
use std::collections::HashMap;

/// A line as it was first met, how often it was given, and where it stood.
struct Given<'a> {
    line: &'a str,
    numbers: Vec<u64>,
    times: usize,
    place: usize,
    met: usize,
}

/// Units of numbers, as advice writes them.
const UNITS: [&str; 6] = ["µs", "ms", "s", "min", "h", "d"];

/// Lines that differ in nothing but their numbers are one, the one with the smallest numbers: what is advised is a bound that has to hold for
/// each of the connections. What is most useful stands first in every advice; so it does here.
pub(super) fn merged<'a>(advices: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let mut given: HashMap<String, Given<'a>> = HashMap::new();
    for advice in advices {
        for (place, line) in advice.iter().enumerate() {
            let (shape, numbers) = shape(line);
            let met = given.len();
            let known = given.entry(shape).or_insert_with(|| Given {
                line,
                numbers: numbers.clone(),
                times: 0,
                place,
                met,
            });
            known.times += 1;
            known.place = known.place.min(place);
            if numbers < known.numbers {
                (known.line, known.numbers) = (line, numbers);
            }
        }
    }
    let mut given: Vec<Given<'a>> = given.into_values().collect();
    given.sort_by_key(|given| (given.place, Reverse(given.times), given.met));
    given.into_iter().map(|given| given.line.to_owned()).collect()
}

/// A line without its numbers and their units, and its numbers, the last one first: where there are several, it is the setting.
fn shape(line: &str) -> (String, Vec<u64>) {
    let mut shape = String::with_capacity(line.len());
    let mut numbers = Vec::new();
    let mut follows_number = false;
    for word in line.split(' ') {
        let bare = word.trim_end_matches([',', ':', ';', '.', ')']);
        if follows_number && UNITS.contains(&bare) {
            continue;
        }
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        numbers.extend(digits(word));
        if is_number && follows_number {
            continue;
        }
        follows_number = is_number;
        if is_number {
            shape.push('#');
        } else {
            shape.extend(word.chars().filter(|c| !c.is_ascii_digit()));
        }
        shape.push(' ');
    }
    numbers.reverse();
    (shape, numbers)
}

fn digits(word: &str) -> impl Iterator<Item = u64> {
    word.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).map(|digits| {
        // Longer ones are no setting of anything.
        digits.parse().unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(idle: &str, at_most: u64) -> Vec<String> {
        vec![
            format!("it had been idle for {idle}: set TCP_KEEPIDLE at most {at_most} s on the socket"),
            "check 10.0.5.7:5432".to_owned(),
        ]
    }

    #[test]
    fn lines_that_differ_in_numbers_are_one_with_the_bound_that_holds_for_all() {
        let advices = [advice("6 min 29 s", 194), advice("5 min 51 s", 175), advice("59.9 s", 180)];
        let merged = merged(advices.iter().map(Vec::as_slice));
        assert_eq!(merged, advices[1]);
    }

    #[test]
    fn other_advice_stays_and_the_most_useful_comes_first() {
        let first = ["a".to_owned(), "c".to_owned()];
        let second = ["b".to_owned(), "c".to_owned()];
        let merged = merged([&first[..], &second, &second].into_iter());
        assert_eq!(merged, ["b", "a", "c"]);
    }
}
