//! Boxes that are done with, to be used again.
//!
//! What is kept for a moment, thousands at a time, the allocator has no quick way with: it joins what was given back and cuts it up again.

/// Boxes whose content is of no meaning any more, so many at most.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    boxes: Vec<Box<T>>,
    most: usize,
}

impl<T> Spare<T> {
    /// None yet.
    pub(crate) const fn at_most(most: usize) -> Self {
        Self { boxes: Vec::new(), most }
    }

    /// Takes a box that is done with.
    pub(crate) fn take_back(&mut self, done_with: Box<T>) {
        if self.boxes.len() < self.most {
            self.boxes.push(done_with);
        }
    }

    /// Puts a value into a box: one that was used before, where there is one.
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what this is about")]
    pub(crate) fn put(&mut self, value: T) -> Box<T> {
        match self.boxes.pop() {
            Some(mut spare) => {
                *spare = value;
                spare
            }
            None => Box::new(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_used_again_for_another_value_and_no_more_are_kept_than_wanted() {
        let mut spare = Spare::at_most(1);
        let boxes = [1, 2].map(|value| spare.put(value));
        let places = boxes.each_ref().map(|one| std::ptr::from_ref(&**one));
        for done_with in boxes {
            spare.take_back(done_with);
        }
        assert_eq!(spare.boxes.len(), 1);
        let third = spare.put(3);
        assert_eq!((std::ptr::from_ref(&*third), *third), (places[0], 3));
        assert_eq!(*spare.put(4), 4);
    }
}
