//! Images between the crates: what a manifest asks of `pixel`, what `pixel` made as a request to `infer`, and where in the
//! study's images a model looked, for `report`.

use dataset::Uid;
use infer::{ImagesManifest, Placement};
use pixel::{
    Area, ImagePolicy, Layout, Mapping, ModelInput, Point, PolicyError, PolicyKeys, ShownFrame, Source, SourcePoint,
    StackSummary, WindowChoice,
};
use report::{Draft, EvidenceItem, Grid, Place2D};
use serde::Serialize;

/// Which images a model is given, from `[images]` of its manifest.
pub(crate) fn image_policy(images: &ImagesManifest) -> Result<ImagePolicy, PolicyError> {
    ImagePolicy::of(&PolicyKeys {
        slices: images.slices.as_deref(),
        montage: images.montage,
        cell: images.cell,
        windows: &images.windows,
        windows_as: images.windows_as.as_deref(),
        limit: images.limit,
    })
}

/// The images of a request. The first one stays behind as well, for the heat map.
pub(super) fn request(input: &mut ModelInput) -> infer::Result<Vec<infer::Image>> {
    let image = |(index, image): (usize, &mut pixel::InputImage)| {
        let picture = &mut image.picture;
        let rgb = if index == 0 { picture.rgb.clone() } else { std::mem::take(&mut picture.rgb) };
        infer::Image::new(picture.width, picture.height, rgb)
    };
    input.images.iter_mut().enumerate().map(image).collect()
}

/// Where the images of a request lie in what the model saw.
pub(super) struct Seen {
    /// Of each image what the vision graph saw of it: one input, or several tiles.
    inputs: Vec<Vec<Layout>>,
    /// The one input that attention lies over, and where that is on the request's first image; nothing when there are
    /// several inputs.
    attended: Option<(Layout, Area)>,
}

impl Seen {
    /// The engine's placements after the composer's mappings. A backend that states none is taken to see a single image as
    /// it is.
    pub(super) fn of(input: &ModelInput, placements: &[Placement]) -> Self {
        let mut inputs: Vec<Vec<Layout>> = vec![Vec::new(); input.images.len()];
        for placement in placements {
            let step = Mapping::scaled(placement.scale, placement.offset);
            if let (Some(step), Some(image)) = (step, input.images.get(placement.image)) {
                inputs[placement.image].push(image.picture.layout.then(step, placement.width, placement.height));
            }
        }
        let attended = match (placements, input.images.as_slice()) {
            ([], [only]) => {
                let layout = only.picture.layout.clone();
                let area = Area::of_size(layout.width, layout.height);
                Some((layout, area))
            }
            ([Placement { image: 0, scale, offset, width, height }], _) => {
                let from = |axis: usize, length: u32| (-offset[axis] / scale[axis], f64::from(length) / scale[axis]);
                let ((left, width), (top, height)) = (from(0, *width), from(1, *height));
                let layout = inputs.first().and_then(|layouts| layouts.first()).cloned();
                layout.map(|layout| (layout, Area { left, top, width, height }))
            }
            _ => None,
        };
        Self { inputs, attended }
    }

    /// The point of a study's image in the middle of the cell that was attended to most.
    fn point(&self, grid: &Grid) -> Option<SourcePoint> {
        let (layout, _) = self.attended.as_ref()?;
        let (row, column) = grid.best_cell()?;
        #[expect(clippy::cast_precision_loss)] // cells of a grid
        let middle = |cell: usize, cells: usize, length: u32| (cell as f64 + 0.5) * f64::from(length) / cells as f64;
        layout.to_source(Point {
            column: middle(column, grid.columns, layout.width),
            row: middle(row, grid.rows, layout.height),
        })
    }

    /// Around what was attended to most: the frame, and corners in its own pixels. Nothing where the model does not tell
    /// where it looked, or looked at no frame.
    pub(super) fn outline(&self, grid: &Grid) -> Option<(Source, Vec<Place2D>)> {
        let (layout, _) = self.attended.as_ref()?;
        let source = self.point(grid)?.source;
        let tile = layout.tiles.iter().find(|tile| tile.source == source)?;
        #[expect(clippy::cast_possible_truncation)] // pixels of a picture
        let corner = |[column, row]: Place2D| {
            let point = tile.mapping.to_source(Point { column: column.into(), row: row.into() });
            let within = |at: f64, length: u32| at.clamp(0.0, length.into()) as f32;
            [within(point.column, tile.size.0), within(point.row, tile.size.1)]
        };
        #[expect(clippy::cast_precision_loss)] // pixels of a picture
        let corners = report::heatmap::outline(grid, (layout.width as f32, layout.height as f32))?;
        Some((source, corners.into_iter().map(corner).collect()))
    }

    /// Where each reported finding was attended to most.
    pub(super) fn attended(&self, draft: &Draft) -> Vec<Attended> {
        let attended = |finding: &report::Finding| {
            let point = self.point(finding.attention.as_ref()?)?;
            Some(Attended { finding: finding.text.clone(), point })
        };
        draft.positive().filter_map(attended).collect()
    }
}

/// Where the model looked most for a finding. It is no measurement: attention says what was looked at, not what is there.
#[derive(Serialize)]
pub(super) struct Attended {
    finding: String,
    #[serde(flatten)]
    point: SourcePoint,
}

/// Which instances were looked at and how, and why the others were not.
#[derive(Serialize)]
pub(super) struct ImagesJson {
    pub(super) read: Vec<Uid>,
    pub(super) left_out: Vec<LeftOut>,
    /// The stacks of the images that the rule takes.
    stacks: Vec<StackSummary>,
    /// The images that the model got, in order.
    shown: Vec<ShownJson>,
    notes: Vec<String>,
}

#[derive(Serialize, Clone)]
pub(super) struct LeftOut {
    pub(super) sop_instance_uid: Uid,
    pub(super) reason: String,
    /// The digest of its data set, where a report depends on its having been left out.
    #[serde(skip)]
    pub(super) digest: String,
    /// Whether it is an image, so that a report that does not speak of it is not the whole one.
    #[serde(skip)]
    pub(super) is_image: bool,
}

impl LeftOut {
    /// An image that is not read.
    pub(super) fn image(sop_instance_uid: Uid, reason: String, digest: String) -> Self {
        Self { sop_instance_uid, reason, digest, is_image: true }
    }

    /// What there is nothing to look at in.
    pub(super) fn document(sop_instance_uid: Uid, reason: String) -> Self {
        Self { sop_instance_uid, reason, digest: String::new(), is_image: false }
    }
}

#[derive(Serialize)]
struct ShownJson {
    /// Index of its stack.
    stack: usize,
    view: Option<String>,
    windows: Vec<WindowChoice>,
    frames: Vec<ShownFrame>,
    /// How its points lead to those of the frames.
    image: Layout,
    /// How those of the model's inputs do, after its own image processor.
    inputs: Vec<Layout>,
}

impl ImagesJson {
    pub(super) fn of(input: ModelInput, seen: Seen, evidence: &[EvidenceItem], left_out: Vec<LeftOut>) -> Self {
        let shown = input.images.into_iter().zip(seen.inputs).map(|(image, inputs)| ShownJson {
            stack: image.stack,
            view: image.view,
            windows: image.windows,
            frames: image.frames,
            image: image.picture.layout,
            inputs,
        });
        Self {
            read: evidence.iter().map(|item| item.sop_instance_uid.clone()).collect(),
            left_out,
            shown: shown.collect(),
            stacks: input.stacks,
            notes: input.notes,
        }
    }
}

/// What the model attended to, finding by finding. Drawn only when asked: the report need not wait for a picture that
/// stays here.
pub(crate) struct HeatMap {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    /// The first frame in it, from 0.
    pub(super) frame: Option<u32>,
    /// Where the maps lie over the picture; nothing when that is not known, so that none is drawn.
    area: Option<report::heatmap::Area>,
    pub(super) draft: Draft,
}

impl HeatMap {
    /// Over the first image of the request, which gives its pixels away.
    pub(super) fn over_first(input: &mut ModelInput, seen: &Seen, draft: Draft) -> Self {
        let frame = input.images.first().and_then(|image| image.frames.first()).map(|shown| shown.source.frame);
        let first = input.images.first_mut().map(|image| &mut image.picture);
        let (width, height, rgb) =
            first.map(|picture| (picture.width, picture.height, std::mem::take(&mut picture.rgb))).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation)] // a pixel of a picture
        let area = seen.attended.as_ref().map(|(_, area)| report::heatmap::Area {
            left: area.left as f32,
            top: area.top as f32,
            width: area.width as f32,
            height: area.height as f32,
        });
        Self { width, height, rgb, frame, area, draft }
    }

    /// The picture, with the maps over it; without any colour where the model reports nothing, or does not tell where it
    /// looked.
    pub(super) fn draw(&self) -> Result<report::heatmap::Raster, report::Error> {
        let maps: Vec<_> = self
            .draft
            .positive()
            .filter(|_| self.area.is_some())
            .filter_map(|finding| finding.attention.as_ref().map(|grid| (grid, finding.text.as_str())))
            .map(|(grid, label)| report::heatmap::FindingMap { grid, area: self.area, label })
            .collect();
        let frame = report::heatmap::Picture::Rgb {
            width: self.width as usize,
            height: self.height as usize,
            pixels: &self.rgb,
        };
        report::heatmap::draw(&frame, &maps)
    }

    /// The same as a PNG.
    pub(crate) fn png(&self) -> Result<Vec<u8>, report::Error> {
        self.draw()?.png()
    }
}
