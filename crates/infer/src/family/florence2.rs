//! Florence-2: the image's features come before the prompt in an encoder of the language model. A task name stands for a
//! sentence, and answers have regions in them.

use serde_json::{Map, Value};

use super::Family;
use crate::{
    answer::Region,
    description::Description,
    error::{Error, Result},
    regions,
};

/// Task names and their sentences, where the folder does not state them (`Florence2Processor`).
const ALONE: [(&str, &str); 8] = [
    ("<OCR>", "What is the text in the image?"),
    ("<OCR_WITH_REGION>", "What is the text in the image, with regions?"),
    ("<CAPTION>", "What does the image describe?"),
    ("<DETAILED_CAPTION>", "Describe in detail what is shown in the image."),
    ("<MORE_DETAILED_CAPTION>", "Describe with a paragraph what is shown in the image."),
    ("<OD>", "Locate the objects with category name in the image."),
    ("<DENSE_REGION_CAPTION>", "Locate the objects in the image, with their descriptions."),
    ("<REGION_PROPOSAL>", "Locate the region proposals in the image."),
];

/// Task names that are followed by a text.
const WITH_INPUT: [(&str, &str); 7] = [
    ("<CAPTION_TO_PHRASE_GROUNDING>", "Locate the phrases in the caption: {input}"),
    ("<REFERRING_EXPRESSION_SEGMENTATION>", "Locate {input} in the image with mask"),
    ("<REGION_TO_SEGMENTATION>", "What is the polygon mask of region {input}"),
    ("<OPEN_VOCABULARY_DETECTION>", "Locate {input} in the image."),
    ("<REGION_TO_CATEGORY>", "What is the region {input}?"),
    ("<REGION_TO_DESCRIPTION>", "What does the region {input} describe?"),
    ("<REGION_TO_OCR>", "What text is in the region {input}?"),
];

pub(super) struct Florence2 {
    alone: Vec<(String, String)>,
    with_input: Vec<(String, String)>,
}

impl Florence2 {
    pub(super) fn new(description: &Description) -> Self {
        let tasks = |key: &str, usual: &[(&str, &str)]| match description.option(key) {
            Some(Value::Object(stated)) => pairs(stated),
            _ => usual.iter().map(|(task, sentence)| ((*task).to_owned(), (*sentence).to_owned())).collect(),
        };
        Self {
            alone: tasks("task_prompts_without_inputs", &ALONE),
            with_input: tasks("task_prompts_with_input", &WITH_INPUT),
        }
    }
}

fn pairs(stated: &Map<String, Value>) -> Vec<(String, String)> {
    stated.iter().filter_map(|(task, sentence)| Some((task.clone(), sentence.as_str()?.to_owned()))).collect()
}

impl Family for Florence2 {
    fn plain(&self, prompt: &str, _images: usize) -> Result<String> {
        if let Some((task, sentence)) = self.alone.iter().find(|(task, _)| prompt.contains(task.as_str())) {
            if prompt != task {
                return Err(Error::Request(format!("task {task} takes no text; ask it alone")));
            }
            return Ok(sentence.clone());
        }
        let asked = self.with_input.iter().find(|(task, _)| prompt.contains(task.as_str()));
        Ok(match asked {
            Some((task, sentence)) => sentence.replace("{input}", prompt.replace(task.as_str(), "").trim()),
            None => prompt.to_owned(),
        })
    }

    fn regions(&self, text: &str, size: [u32; 2]) -> Vec<Region> {
        regions::of_florence2(text, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_become_sentences() {
        let own = |tasks: &[(&str, &str)]| {
            tasks.iter().map(|(task, sentence)| ((*task).to_owned(), (*sentence).to_owned())).collect()
        };
        let family = Florence2 { alone: own(&ALONE), with_input: own(&WITH_INPUT) };
        let check = |prompt: &str, expected: &str| assert_eq!(family.plain(prompt, 1).expect("a task"), expected);
        check("<OD>", "Locate the objects with category name in the image.");
        check("<CAPTION_TO_PHRASE_GROUNDING> a heart ", "Locate the phrases in the caption: a heart");
        check("<REGION_TO_OCR><loc_1><loc_2>", "What text is in the region <loc_1><loc_2>?");
        check("Is it normal?", "Is it normal?");
        assert!(family.plain("<OD> heart", 1).is_err());
    }
}
