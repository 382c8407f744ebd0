//! The vision graph: prepared images in, features out.

use std::{borrow::Cow, ops::Range, sync::Arc, time::Duration};

use ort::value::DynValue;

use crate::{
    answer::Statistics,
    cancel::Cancel,
    error::{Error, Result},
    graph::{Feeds, Graph, GraphInfo, TensorInfo, floats, integers, read_floats, switches},
    prepared::{Arrangement, Prepared},
};

/// A vision graph and where its parts are.
pub(crate) struct Vision {
    graph: Graph,
    /// Index of the pixel input.
    pixels: usize,
    /// Index of the feature output.
    features: usize,
}

/// A tensor that the vision graph returns beside its features.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// What the vision graph made of a request's images.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    /// Rows of `width` values, image after image.
    pub(crate) values: Vec<f32>,
    /// Length of a feature.
    pub(crate) width: usize,
    /// Features of each image.
    pub(crate) of_image: Vec<usize>,
    /// Dimensions as the graph returned them, when it ran once; else [features, width].
    pub(crate) shape: Vec<usize>,
    /// Everything else it returns; of several runs put together along the last dimension but one.
    pub(crate) others: Vec<Named>,
}

impl Features {
    /// Number of features of all images.
    pub(crate) fn count(&self) -> usize {
        self.of_image.iter().sum()
    }
}

/// One run of the graph.
struct Call {
    shape: Vec<usize>,
    values: Range<usize>,
    mask: Option<(Vec<usize>, Range<usize>)>,
    grid: Option<Vec<[i64; 3]>>,
    sizes: Option<Vec<[i64; 2]>>,
    /// Images whose views it holds, and how many of each.
    parts: Vec<(usize, usize)>,
}

/// Inputs this engine fills, by the engine's names.
const INPUTS: &str = "pixel_values, pixel_attention_mask, image_grid_thw, image_sizes";

impl Vision {
    /// Finds the parts of a vision graph.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an input that cannot be filled or when no output is features.
    pub(crate) fn new(graph: Graph) -> Result<Self> {
        let info = graph.info();
        let by_role = |role: &str| info.inputs.iter().position(|input| input.role == role);
        let pixels = by_role("pixel_values").or_else(|| info.inputs.iter().position(TensorInfo::is_float));
        let known = |input: &TensorInfo| input_kind(&input.role).is_some();
        let strange: Vec<&str> = info
            .inputs
            .iter()
            .enumerate()
            .filter(|(index, input)| Some(*index) != pixels && !known(input))
            .map(|(_, input)| input.name.as_str())
            .collect();
        let rank = pixels.map_or(0, |pixels| info.inputs[pixels].shape.len());
        let Some(pixels) = pixels.filter(|_| strange.is_empty() && [2, 4, 5].contains(&rank)) else {
            return Err(refuse(info));
        };
        let named = graph.output("image_features").or_else(|| graph.output("last_hidden_state"));
        let sole = || match &info.outputs[..] {
            [output] if output.is_float() => Some(0),
            _ => None,
        };
        let features = named.or_else(sole).ok_or_else(|| {
            let outputs: Vec<&str> = info.outputs.iter().map(|output| output.name.as_str()).collect();
            Error::unsupported(
                format!("{} with outputs {}", info.file, outputs.join(", ")),
                "a vision graph that returns image_features or last_hidden_state",
                "export the model again, or choose another",
            )
        })?;
        Ok(Self { graph, pixels, features })
    }

    /// How long ONNX Runtime has run it so far.
    pub(crate) fn ran(&self) -> Duration {
        self.graph.ran()
    }

    pub(crate) fn info(&self) -> &Arc<GraphInfo> {
        self.graph.info()
    }

    fn pixels(&self) -> &TensorInfo {
        &self.graph.info().inputs[self.pixels]
    }

    /// Channels that the graph takes, where it fixes them.
    pub(crate) fn channels(&self) -> Option<usize> {
        let pixels = self.pixels();
        let channels = if pixels.shape.len() < 4 { None } else { pixels.fixed(pixels.shape.len() - 3) };
        channels.and_then(|channels| usize::try_from(channels).ok())
    }

    /// Whether the graph itself is told how large the images are, and arranges the features of tiles.
    pub(crate) fn knows_sizes(&self) -> bool {
        self.graph.input("image_sizes").is_some()
    }

    /// Names of what it returns beside its features.
    pub(crate) fn other_outputs(&self) -> Vec<String> {
        let outputs = self.graph.info().outputs.iter().enumerate();
        outputs.filter(|(index, _)| *index != self.features).map(|(_, output)| output.role.clone()).collect()
    }

    /// Runs the graph over all images, each on its own where the graph takes pixels of one at a time.
    pub(crate) fn see(&mut self, prepared: &Prepared, cancel: &Cancel) -> Result<Features> {
        let mut seen = Features {
            values: Vec::new(),
            width: 0,
            of_image: vec![0; prepared.images.len()],
            shape: Vec::new(),
            others: Vec::new(),
        };
        let calls = self.calls(prepared)?;
        let alone = calls.len() == 1;
        for call in calls {
            self.check_size(&call.shape)?;
            let info = Arc::clone(self.graph.info());
            let feeds = feeds(&info, self.pixels, prepared, &call)?;
            let outputs = self.graph.run(feeds, cancel)?;
            self.collect(&mut seen, &call.parts, &outputs)?;
            if alone {
                seen.shape = read_floats("image_features", &outputs[self.features])?.0;
            }
        }
        if !alone {
            seen.shape = vec![seen.count(), seen.width];
        }
        Ok(seen)
    }

    fn collect(&self, seen: &mut Features, parts: &[(usize, usize)], outputs: &[DynValue]) -> Result<()> {
        let info = self.graph.info();
        let (shape, values) = read_floats(&info.outputs[self.features].name, &outputs[self.features])?;
        let width = shape.last().copied().unwrap_or(0);
        if width == 0 || seen.width != 0 && seen.width != width {
            return Err(Error::graph(&info.file, format!("features have shape {shape:?}; expected [.., width]")));
        }
        let rows = values.len() / width;
        let views: usize = parts.iter().map(|(_, views)| views).sum();
        if views == 0 || !rows.is_multiple_of(views) {
            let problem = format!("{rows} features for {views} views; every view must have as many");
            return Err(Error::graph(&info.file, problem));
        }
        for (image, of_it) in parts {
            seen.of_image[*image] += rows / views * of_it;
        }
        seen.width = width;
        seen.values.extend_from_slice(&values);
        for (index, (output, value)) in info.outputs.iter().zip(outputs).enumerate() {
            if index != self.features && output.is_float() {
                let (shape, values) = read_floats(&output.name, value)?;
                append(&mut seen.others, &output.role, shape, values.into_owned());
            }
        }
        Ok(())
    }

    /// The runs that a request's images take.
    fn calls(&self, prepared: &Prepared) -> Result<Vec<Call>> {
        let shape = &prepared.pixel_values.shape;
        let views: Vec<usize> = prepared.images.iter().map(|arrangement| views(*arrangement)).collect();
        let wanted = self.pixels().shape.len();
        match (wanted, shape.len()) {
            (2, 2) => self.by_patches(prepared),
            (4, 4) if shape[0] == views.iter().sum::<usize>() => {
                let images = views.iter().enumerate().flat_map(|(image, views)| std::iter::repeat_n(image, *views));
                Ok(images
                    .enumerate()
                    .map(|(view, image)| slice(prepared, view..view + 1, &shape[1..], vec![(image, 1)]))
                    .collect())
            }
            (4, 5) => Ok(self.by_view(prepared, &views)),
            (5, 4) => {
                let whole: Vec<usize> = [1].into_iter().chain(shape.iter().copied()).collect();
                let parts = views.iter().copied().enumerate().collect();
                Ok(vec![Call { shape: whole, ..slice(prepared, 0..shape[0], &shape[1..], parts) }])
            }
            (5, 5) if shape[0] == views.len() => {
                Ok((0..shape[0]).map(|image| self.by_image(prepared, image, views[image])).collect())
            }
            (5, 5) if shape[0] == 1 && shape[1] == views.iter().sum::<usize>() => {
                let parts: Vec<(usize, usize)> = views.iter().copied().enumerate().collect();
                let rows = 0..shape[1];
                let mut call = slice(prepared, rows, &shape[2..], parts);
                call.shape.insert(0, 1);
                if let Some((mask, _)) = &mut call.mask {
                    mask.insert(0, 1);
                }
                Ok(vec![call])
            }
            _ => Err(Error::unsupported(
                format!(
                    "{}: pixels of rank {wanted}, and a processor that makes shape {shape:?}",
                    self.graph.info().file
                ),
                "a vision graph and an image processor that fit together",
                "copy preprocessor_config.json from the source that the graphs are from",
            )),
        }
    }

    /// Patches of all images in one table: each image is a run of its own, as attention is within an image.
    fn by_patches(&self, prepared: &Prepared) -> Result<Vec<Call>> {
        let shape = &prepared.pixel_values.shape;
        let grids = prepared.image_grid_thw.as_ref();
        let grids =
            grids.ok_or_else(|| Error::graph(&self.graph.info().file, "the processor states no image_grid_thw"))?;
        let mut calls = Vec::with_capacity(grids.len());
        let mut from = 0;
        for (image, grid) in grids.iter().enumerate() {
            let patches: i64 = grid.iter().product();
            let to = from + usize::try_from(patches).unwrap_or(0);
            let call = slice(prepared, from..to, &shape[1..], vec![(image, 1)]);
            calls.push(Call { grid: Some(vec![*grid]), ..call });
            from = to;
        }
        Ok(calls)
    }

    /// Each view on its own, of a processor that keeps the views of an image together.
    fn by_view(&self, prepared: &Prepared, views: &[usize]) -> Vec<Call> {
        let shape = &prepared.pixel_values.shape;
        let mut calls = Vec::new();
        let mut next = 0;
        for (image, of_it) in views.iter().enumerate() {
            // One row for each image, or one for all.
            let first = if shape[0] == 1 { next } else { image * shape[1] };
            for view in first..first + of_it {
                calls.push(slice(prepared, view..view + 1, &shape[2..], vec![(image, 1)]));
            }
            next += of_it;
        }
        calls
    }

    /// All views of one image, of a processor that has a row for each image.
    fn by_image(&self, prepared: &Prepared, image: usize, views: usize) -> Call {
        let shape = &prepared.pixel_values.shape;
        let fixed = self.pixels().fixed(1).is_some();
        let held = if fixed { shape[1] } else { views.min(shape[1]) };
        let first = image * shape[1];
        // A graph that arranges the features of the views itself returns what it likes.
        let part = if self.knows_sizes() { 1 } else { held };
        let mut call = slice(prepared, first..first + held, &shape[2..], vec![(image, part)]);
        call.shape.insert(0, 1);
        if let Some((mask, _)) = &mut call.mask {
            mask.insert(0, 1);
        }
        call.sizes = prepared.image_sizes.as_ref().and_then(|sizes| sizes.get(image)).map(|size| vec![*size]);
        call
    }

    /// Refuses pixels that the graph's fixed dimensions do not take.
    fn check_size(&self, shape: &[usize]) -> Result<()> {
        let pixels = self.pixels();
        for (index, found) in shape.iter().enumerate() {
            let Some(fixed) = pixels.fixed(index).filter(|fixed| usize::try_from(*fixed) != Ok(*found)) else {
                continue;
            };
            let axis = match shape.len() - index {
                1 if shape.len() > 2 => "width",
                2 if shape.len() > 2 => "height",
                3 if shape.len() > 2 => "number of channels",
                _ => "dimension",
            };
            return Err(Error::Request(format!(
                "the image has {axis} {found} after preprocessing, {} takes {fixed}; correct `size` of the image processor",
                self.graph.info().file
            )));
        }
        Ok(())
    }

    /// The pixels in short, as they were prepared.
    pub(crate) fn statistics(prepared: &Prepared) -> Statistics {
        Statistics::of(&prepared.pixel_values.shape, &prepared.pixel_values.values)
    }
}

fn feeds<'a>(info: &'a GraphInfo, pixels: usize, prepared: &Prepared, call: &Call) -> Result<Feeds<'a>> {
    let missing =
        |what: &str| Error::graph(&info.file, format!("it asks for {what}, which the image processor does not make"));
    let mut feeds: Feeds<'a> = Vec::with_capacity(info.inputs.len());
    for (index, input) in info.inputs.iter().enumerate() {
        let value = if index == pixels {
            floats(input, &call.shape, prepared.pixel_values.values[call.values.clone()].to_vec())?
        } else {
            match input_kind(&input.role) {
                Some(Kind::Mask) => match (&call.mask, &prepared.pixel_attention_mask) {
                    (Some((shape, range)), Some(mask)) => switches(input, shape, &mask.values[range.clone()])?,
                    _ => whole_mask(input, &call.shape)?,
                },
                Some(Kind::Grid) => {
                    let grid = call.grid.as_ref().ok_or_else(|| missing("image_grid_thw"))?;
                    integers(input, &[grid.len(), 3], grid.iter().flatten().copied().collect())?
                }
                Some(Kind::Sizes) => {
                    let sizes =
                        call.sizes.as_ref().or(prepared.image_sizes.as_ref()).ok_or_else(|| missing("image_sizes"))?;
                    integers(input, &[sizes.len(), 2], sizes.iter().flatten().copied().collect())?
                }
                None => return Err(refuse(info)),
            }
        };
        feeds.push((Cow::Borrowed(input.name.as_str()), value.into()));
    }
    Ok(feeds)
}

/// What an input besides the pixels is filled with.
enum Kind {
    Mask,
    Grid,
    Sizes,
}

fn input_kind(role: &str) -> Option<Kind> {
    match role {
        "pixel_attention_mask" | "image_attention_mask" => Some(Kind::Mask),
        "image_grid_thw" | "grid_thw" => Some(Kind::Grid),
        "image_sizes" => Some(Kind::Sizes),
        _ => None,
    }
}

/// A mask without padding, for a processor that pads nothing.
fn whole_mask(input: &TensorInfo, pixels: &[usize]) -> Result<DynValue> {
    let channel = pixels.len().saturating_sub(3);
    let shape: Vec<usize> =
        pixels.iter().enumerate().filter(|(axis, _)| *axis != channel).map(|(_, size)| *size).collect();
    switches(input, &shape, &vec![true; shape.iter().product()])
}

/// How many views of an image the graph sees.
fn views(arrangement: Arrangement) -> usize {
    match arrangement {
        Arrangement::Whole | Arrangement::Padded | Arrangement::Grid { .. } => 1,
        Arrangement::Tiles { rows, columns }
        | Arrangement::HighDefinition { rows, columns }
        | Arrangement::AnyResolution { rows, columns, .. } => rows * columns + 1,
        Arrangement::Crops { count } => count + 1,
    }
}

/// The part of the prepared images that one run takes: consecutive rows of `row` dimensions.
fn slice(prepared: &Prepared, rows: Range<usize>, row: &[usize], parts: Vec<(usize, usize)>) -> Call {
    let size: usize = row.iter().product();
    let (from, to) = (rows.start, rows.end);
    let shape = [to - from].into_iter().chain(row.iter().copied()).collect();
    let mask = prepared.pixel_attention_mask.as_ref().map(|mask| {
        let plane: usize = mask.shape.iter().rev().take(2).product();
        let shape = [to - from]
            .into_iter()
            .chain(mask.shape.iter().copied().skip(mask.shape.len().saturating_sub(2)))
            .collect();
        (shape, from * plane..to * plane)
    });
    Call { shape, values: from * size..to * size, mask, grid: None, sizes: None, parts }
}

/// Puts what another run returned behind what the runs before returned, along the last dimension but one.
fn append(others: &mut Vec<Named>, name: &str, shape: Vec<usize>, values: Vec<f32>) {
    let Some(known) = others.iter_mut().find(|other| other.name == name) else {
        others.push(Named { name: name.to_owned(), shape, values });
        return;
    };
    let axis = shape.len().saturating_sub(2);
    let outer: usize = shape[..axis].iter().product();
    let (before, added) = (known.values.len() / outer.max(1), values.len() / outer.max(1));
    let mut joined = Vec::with_capacity(known.values.len() + values.len());
    for index in 0..outer.max(1) {
        joined.extend_from_slice(&known.values[index * before..(index + 1) * before]);
        joined.extend_from_slice(&values[index * added..(index + 1) * added]);
    }
    known.values = joined;
    if let (Some(size), Some(more)) = (known.shape.get_mut(axis), shape.get(axis)) {
        *size += more;
    }
}

fn refuse(info: &GraphInfo) -> Error {
    let inputs: Vec<String> =
        info.inputs.iter().map(|input| format!("{} (rank {})", input.name, input.shape.len())).collect();
    Error::unsupported(
        format!("{} with inputs {}", info.file, inputs.join(", ")),
        format!("a vision graph with pixel_values of rank 2, 4 or 5 and besides only {INPUTS}"),
        "choose another model",
    )
}
