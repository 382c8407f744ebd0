//! `model.toml`: what a person states about a model beside its weights.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The manifest of a model folder (`model.toml`). Every key is optional; an unknown key is an error that names the line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// Name shown in reports; the folder's name when absent.
    pub name: Option<String>,
    /// Version of the weights, as their author counts.
    pub version: Option<String>,
    /// Licence of the weights, an SPDX expression where there is one.
    pub licence: Option<String>,
    /// What the model is meant for, one sentence.
    pub intended_use: Option<String>,
    /// What every reader of its output has to be told, one sentence.
    pub notice: Option<String>,
    /// DICOM modalities (0008,0060) it was made for, such as `CR`.
    pub modality: Vec<String>,
    /// Body parts (0018,0015) it was made for.
    pub body_part: Vec<String>,
    /// View positions (0018,5101) it was made for.
    pub view: Vec<String>,
    /// Prompt used when a request brings none.
    pub prompt: Option<String>,
    /// Which graphs are taken where the folder has them in several precisions, by the file's suffix: `fp32` (no suffix),
    /// `fp16`, `quantized`, `q4` …; the most exact when absent.
    pub precision: Option<String>,
    /// Generation options by their Hugging Face names, over those of the model's own files.
    pub generation: Map<String, Value>,
    /// Image processor options by their Hugging Face names, over those of the model's own files.
    pub processor: Map<String, Value>,
    /// How attention is read from the graphs.
    pub attention: AttentionManifest,
    /// Which images it is given.
    pub images: ImagesManifest,
}

/// `[images]` of a manifest: which images a request is made of. The engine takes what it is given; whoever makes the
/// requests reads these keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesManifest {
    /// Which slices of a stack or frames of a cine: `middle` (the default), `all`, `every 5 mm`, `8 evenly`.
    pub slices: Option<String>,
    /// Rows and columns of a picture of several slices; it is filled evenly unless `slices` says which.
    pub montage: Option<[u32; 2]>,
    /// Width and height of a slice's place in the montage, in pixels; 256 when absent.
    pub cell: Option<u32>,
    /// Windows: `file` (the default), `lung`, `mediastinum`, `bone`, `brain`, `liver` (CT), `40/400` (centre and width),
    /// `percentiles` or `percentiles 1 99` of the stack's values.
    pub windows: Vec<String>,
    /// What several windows become: `images` (the default), or `channels` of one image, when there are three.
    pub windows_as: Option<String>,
    /// How many images a request has at most; 1 when absent.
    pub limit: Option<u32>,
}

/// `[attention]` of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionManifest {
    /// Where the map comes from; `cross_attentions` (the default) is the decoder's optional outputs of that name.
    pub source: Option<AttentionSource>,
    /// Decoder layer, counted from 0; the last one when absent.
    pub layer: Option<usize>,
    /// Rows and columns of the encoder's grid where its length does not tell (neither n² nor n²+1).
    pub grid: Option<[usize; 2]>,
}

/// Which graph outputs carry attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionSource {
    /// `cross_attentions.N` of the decoder, [batch, heads, sequence, encoder length].
    CrossAttentions,
}

impl Manifest {
    /// Parses the text of a `model.toml`.
    ///
    /// # Errors
    /// The message of the TOML parser, with line, column and the keys that exist.
    pub fn parse(text: &str) -> std::result::Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Reads `model.toml` of a folder; an absent file is an empty manifest.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("model.toml");
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|error| Error::bundle(path, error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::bundle(path, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_key() {
        let manifest = Manifest::parse(
            "name = 'a'\nmodality = ['CR', 'DX']\nprompt = 'p'\n[attention]\nsource = 'cross_attentions'\nlayer = 1\ngrid = [16, 16]\n\
             [generation]\nmax_new_tokens = 40\n[processor]\nsize = { height = 8, width = 9 }\n\
             [images]\nslices = 'all'\nmontage = [3, 4]\ncell = 128\nwindows = ['lung']\nwindows_as = 'images'\nlimit = 2\n",
        )
        .expect("valid");
        assert_eq!(manifest.modality, ["CR", "DX"]);
        assert_eq!(manifest.attention.grid, Some([16, 16]));
        assert_eq!(manifest.generation["max_new_tokens"], 40);
        assert_eq!(manifest.processor["size"]["width"], 9);
        assert_eq!((manifest.images.montage, manifest.images.limit), (Some([3, 4]), Some(2)));
    }

    #[test]
    fn an_unknown_key_names_its_line() {
        let error = Manifest::parse("name = 'a'\nlicense = 'MIT'\n").expect_err("`license` is not a key").to_string();
        assert!(error.contains("line 2") && error.contains("licence"), "{error}");
    }
}
