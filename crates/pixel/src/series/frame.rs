use std::{collections::BTreeMap, sync::Arc};

use dataset::{Header, Instance, Tag, Uid, tags};
use dicom_core::PrimitiveValue;
use dicom_object::InMemDicomObject;

use super::geometry::Plane;
use crate::{
    ImagePixel, Limits, Photometric,
    frames::PixelData,
    groups::{functional_group, header_numbers, number, numbers, text},
    render::Source,
};

/// An attribute that tells stacks of one series apart. The order is the one in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Apart {
    /// Rows and columns of the frame.
    Size,
    /// Pixel Spacing: another field of view.
    PixelSpacing,
    /// Frame of Reference UID: positions that cannot be compared.
    FrameOfReference,
    /// Stack ID of a multi-frame image.
    StackId,
    /// Convolution Kernel, or Reconstruction Algorithm of an enhanced image.
    Kernel,
    /// Echo Time or Effective Echo Time, in ms.
    EchoTime,
    /// Image Type or Frame Type, from its third value on, and Complex Image Component.
    ImageType,
    /// Diffusion b-value, in s/mm².
    DiffusionBValue,
    /// Diffusion Gradient Orientation.
    DiffusionGradient,
    /// Temporal Position Identifier or Index.
    TemporalPosition,
    /// Nominal Percentage of Cardiac Phase, or Trigger Time.
    CardiacPhase,
    /// Inversion Time, in ms.
    InversionTime,
    /// KVP: the energies of a dual-energy scan.
    Voltage,
    /// Slice Thickness, in mm.
    SliceThickness,
    /// Frame Reference Time, in ms, of nuclear medicine.
    FrameReferenceTime,
    /// Acquisition Number.
    AcquisitionNumber,
    /// Acquisition DateTime or Time.
    AcquisitionTime,
    /// A dimension of the multi-frame image that is not the position.
    Dimension,
    /// Where the frame's corner lies in its own plane, in mm.
    InPlanePosition,
    /// Nothing told frames at one position apart but the order of their instance and frame numbers.
    InstanceNumber,
}

impl Apart {
    /// Those that always separate, even where no two frames are at one position.
    pub(crate) const ALWAYS: [Self; 5] =
        [Self::Size, Self::PixelSpacing, Self::FrameOfReference, Self::StackId, Self::Kernel];

    /// Those that separate only where two frames would be at one position, in the order in which they are tried.
    pub(crate) const ON_COLLISION: [Self; 14] = [
        Self::EchoTime,
        Self::ImageType,
        Self::DiffusionBValue,
        Self::DiffusionGradient,
        Self::TemporalPosition,
        Self::CardiacPhase,
        Self::InversionTime,
        Self::Voltage,
        Self::SliceThickness,
        Self::FrameReferenceTime,
        Self::AcquisitionNumber,
        Self::AcquisitionTime,
        Self::Dimension,
        Self::InPlanePosition,
    ];
}

/// What ordering needs to know of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The caller's index of the image that it belongs to.
    pub image: usize,
    /// Which frame it is.
    pub source: Source,
    /// Where it lies in the patient, when the image says so.
    pub plane: Option<Plane>,
    pub(crate) in_stack_position: Option<i64>,
    pub(crate) recommended: bool,
    pub(crate) of_image: Arc<OfImage>,
    own: BTreeMap<Apart, String>,
}

/// What all frames of an image have in common: kept once, because there may be ten thousand of them.
#[derive(Debug, PartialEq)]
pub(crate) struct OfImage {
    pub(crate) series: (i64, Uid),
    pub(crate) instance_number: i64,
    pub(crate) of_cross_section: bool,
    pub(crate) frames: u32,
    apart: BTreeMap<Apart, String>,
}

impl Frame {
    /// The value of an attribute that may tell stacks apart, as it is compared.
    pub(crate) fn told(&self, what: Apart) -> Option<&String> {
        self.own.get(&what).or_else(|| self.of_image.apart.get(&what))
    }
}

/// Whether the header of an image says all that [`frames_of`] wants to know. Otherwise the instance has to be opened:
/// what is said frame by frame is in sequences, which a header does not keep.
pub fn header_suffices(header: &Header) -> bool {
    let has_plane = header.raw(tags::IMAGE_POSITION_PATIENT).is_some();
    match header.integer(tags::NUMBER_OF_FRAMES) {
        None => true,
        Some(count) => count <= 1 && has_plane,
    }
}

/// The frames of an image: as many as Number of Frames says, or one where that is more than `limits.frames` or than there
/// is pixel data for, so that none can be decoded. `instance` is the whole of it, where [`header_suffices`] says that it is
/// wanted; without it, such an image has frames without a position.
pub fn frames_of(image: usize, header: &Header, instance: Option<&Instance>, limits: &Limits) -> Vec<Frame> {
    let count = header.integer(tags::NUMBER_OF_FRAMES).and_then(|count| u32::try_from(count).ok());
    let count = count.filter(|count| (1..=limits.frames).contains(count)).unwrap_or(1);
    let complete = instance.is_none_or(|instance| frames_there(instance, limits) >= u64::from(count));
    let count = if complete { count } else { 1 };
    let of_header = of_header(image, header, count);
    let positions = instance.map(dimension_of_position).unwrap_or_default();
    // Both count from 1.
    let recommended = [tags::REPRESENTATIVE_FRAME_NUMBER, tags::FRAME_NUMBERS_OF_INTEREST];
    let recommended = recommended.into_iter().find_map(|tag| header.integer(tag)).filter(|number| *number >= 1);
    (0..count)
        .map(|frame| {
            let mut it = of_header.clone();
            it.source.frame = frame;
            it.recommended = recommended == Some(i64::from(frame) + 1);
            if let Some(instance) = instance {
                of_groups(&mut it, instance, frame, &positions);
            }
            if let Some(plane) = it.plane {
                let corner = [plane.row, plane.column].map(|axis| super::geometry::dot(plane.position, axis));
                it.own.insert(Apart::InPlanePosition, joined(&corner, 1));
            }
            it
        })
        .collect()
}

/// How many frames the pixel data of an image has room for at the most. A header may claim any number, and no memory is spent on
/// claims.
fn frames_there(instance: &Instance, limits: &Limits) -> u64 {
    let Ok(image) = ImagePixel::of(instance, limits) else { return 0 };
    match PixelData::of(instance) {
        Ok(PixelData::Native(value)) => {
            // Two pixels of YBR_FULL_422 have four samples.
            let samples = if image.photometric == Photometric::YbrFull422 { 2 } else { u64::from(image.samples) };
            let bits = image.pixels() as u64 * samples * u64::from(image.bits_allocated);
            value.byte_length() as u64 * 8 / bits.max(1)
        }
        Ok(PixelData::Encapsulated(fragments)) => {
            // A fragment may hold the codestreams of several frames; none is shorter than its own header.
            const SHORTEST: u64 = 16;
            let bytes: u64 = fragments.fragments().iter().map(|fragment| fragment.len() as u64).sum();
            (bytes / SHORTEST).max(fragments.fragments().len() as u64)
        }
        Err(_) => 0,
    }
}

/// What stands at the top level: all there is of a classic image, and what an enhanced one has once for all frames.
fn of_header(image: usize, header: &Header, frames_of_image: u32) -> Frame {
    let values = |tag| header_numbers(header, tag);
    let mut apart = BTreeMap::new();
    let size = [tags::COLUMNS, tags::ROWS].map(|tag| header.integer(tag).unwrap_or(0).to_string());
    apart.insert(Apart::Size, size.join(" x "));
    let numeric: [(Apart, &[Tag], usize); 11] = [
        (Apart::PixelSpacing, &[tags::PIXEL_SPACING], 3),
        (Apart::EchoTime, &[tags::ECHO_TIME, tags::EFFECTIVE_ECHO_TIME], 2),
        (Apart::DiffusionBValue, &[tags::DIFFUSION_B_VALUE], 0),
        (Apart::DiffusionGradient, &[tags::DIFFUSION_GRADIENT_ORIENTATION], 2),
        (Apart::TemporalPosition, &[tags::TEMPORAL_POSITION_IDENTIFIER], 0),
        (Apart::CardiacPhase, &[tags::NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE, tags::TRIGGER_TIME], 0),
        (Apart::InversionTime, &[tags::INVERSION_TIME], 0),
        (Apart::Voltage, &[tags::KVP], 0),
        (Apart::SliceThickness, &[tags::SLICE_THICKNESS], 2),
        (Apart::FrameReferenceTime, &[tags::FRAME_REFERENCE_TIME], 0),
        (Apart::AcquisitionNumber, &[tags::ACQUISITION_NUMBER], 0),
    ];
    for (what, attributes, digits) in numeric {
        if let Some(found) = attributes.iter().map(|tag| values(*tag)).find(|values| !values.is_empty()) {
            apart.insert(what, joined(&found, digits));
        }
    }
    let texts: [(Apart, &[Tag]); 3] = [
        (Apart::FrameOfReference, &[tags::FRAME_OF_REFERENCE_UID]),
        (Apart::Kernel, &[tags::CONVOLUTION_KERNEL]),
        (Apart::AcquisitionTime, &[tags::ACQUISITION_DATE_TIME, tags::ACQUISITION_TIME]),
    ];
    for (what, attributes) in texts {
        if let Some(found) = attributes.iter().find_map(|tag| header.text(*tag)) {
            apart.insert(what, found);
        }
    }
    let component = header.text(tags::COMPLEX_IMAGE_COMPONENT);
    let image_type = header.texts(tags::IMAGE_TYPE).into_iter().skip(2).chain(component);
    apart.insert(Apart::ImageType, image_type.collect::<Vec<_>>().join("\\"));
    let of_image = OfImage {
        series: (header.integer(tags::SERIES_NUMBER).unwrap_or(i64::MAX), header.series_instance_uid.clone()),
        instance_number: header.integer(tags::INSTANCE_NUMBER).unwrap_or(i64::MAX),
        of_cross_section: ["CT", "MR", "PT", "NM"].contains(&header.modality().as_str()) && frames_of_image == 1,
        frames: frames_of_image,
        apart,
    };
    Frame {
        image,
        source: Source { sop_instance_uid: header.sop_instance_uid.clone(), frame: 0 },
        plane: Plane::of(&values(tags::IMAGE_POSITION_PATIENT), &values(tags::IMAGE_ORIENTATION_PATIENT)),
        in_stack_position: None,
        recommended: false,
        of_image: Arc::new(of_image),
        own: BTreeMap::new(),
    }
}

/// What the functional groups of a frame say (PS3.3 C.7.6.16), over what stands at the top level.
fn of_groups(it: &mut Frame, instance: &Instance, frame: u32, positions: &[usize]) {
    let group = |sequence| functional_group(instance, frame, sequence);
    let values = |item: Option<&InMemDicomObject>, tag| {
        item.and_then(|item| numbers(item, tag, "a value").ok().flatten()).unwrap_or_default()
    };
    let position = values(group(tags::PLANE_POSITION_SEQUENCE), tags::IMAGE_POSITION_PATIENT);
    let orientation = values(group(tags::PLANE_ORIENTATION_SEQUENCE), tags::IMAGE_ORIENTATION_PATIENT);
    it.plane = Plane::of(&position, &orientation).or(it.plane);
    let content = group(tags::FRAME_CONTENT_SEQUENCE);
    #[expect(clippy::cast_possible_truncation)] // a number that was counted
    let counted = values(content, tags::IN_STACK_POSITION_NUMBER).first().map(|number| *number as i64);
    it.in_stack_position = counted;
    let numeric: [(Apart, Tag, Tag, usize); 9] = [
        (Apart::PixelSpacing, tags::PIXEL_MEASURES_SEQUENCE, tags::PIXEL_SPACING, 3),
        (Apart::SliceThickness, tags::PIXEL_MEASURES_SEQUENCE, tags::SLICE_THICKNESS, 2),
        (Apart::EchoTime, tags::MR_ECHO_SEQUENCE, tags::EFFECTIVE_ECHO_TIME, 2),
        (Apart::DiffusionBValue, tags::MR_DIFFUSION_SEQUENCE, tags::DIFFUSION_B_VALUE, 0),
        (Apart::TemporalPosition, tags::FRAME_CONTENT_SEQUENCE, tags::TEMPORAL_POSITION_INDEX, 0),
        (Apart::TemporalPosition, tags::TEMPORAL_POSITION_SEQUENCE, tags::TEMPORAL_POSITION_TIME_OFFSET, 3),
        (Apart::CardiacPhase, tags::CARDIAC_SYNCHRONIZATION_SEQUENCE, tags::NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE, 0),
        (Apart::Voltage, tags::CTX_RAY_DETAILS_SEQUENCE, tags::KVP, 0),
        (Apart::AcquisitionNumber, tags::FRAME_CONTENT_SEQUENCE, tags::FRAME_ACQUISITION_NUMBER, 0),
    ];
    for (what, sequence, tag, digits) in numeric {
        let found = values(group(sequence), tag);
        if !found.is_empty() {
            it.own.insert(what, joined(&found, digits));
        }
    }
    let diffusion = group(tags::MR_DIFFUSION_SEQUENCE);
    let gradient = diffusion.and_then(|item| item.get(tags::DIFFUSION_GRADIENT_DIRECTION_SEQUENCE)?.items()?.first());
    let gradient = values(gradient, tags::DIFFUSION_GRADIENT_ORIENTATION);
    if !gradient.is_empty() {
        it.own.insert(Apart::DiffusionGradient, joined(&gradient, 2));
    }
    let said = |sequence, tag| text(group(sequence)?, tag);
    let texts = [
        (Apart::StackId, said(tags::FRAME_CONTENT_SEQUENCE, tags::STACK_ID)),
        (Apart::Kernel, said(tags::CT_RECONSTRUCTION_SEQUENCE, tags::CONVOLUTION_KERNEL)),
        (Apart::AcquisitionTime, said(tags::FRAME_CONTENT_SEQUENCE, tags::FRAME_ACQUISITION_DATE_TIME)),
        (Apart::ImageType, frame_type(instance, frame)),
    ];
    for (what, found) in texts {
        if let Some(found) = found {
            it.own.insert(what, found);
        }
    }
    let indices = values(content, tags::DIMENSION_INDEX_VALUES);
    let others = indices.iter().enumerate().filter(|(index, _)| !positions.contains(index)).map(|(_, value)| *value);
    let others: Vec<f64> = others.collect();
    if !others.is_empty() {
        it.own.insert(Apart::Dimension, joined(&others, 0));
    }
}

/// Frame Type from its third value on, with the Complex Image Component beside it.
fn frame_type(instance: &Instance, frame: u32) -> Option<String> {
    let sequences =
        [tags::MR_IMAGE_FRAME_TYPE_SEQUENCE, tags::CT_IMAGE_FRAME_TYPE_SEQUENCE, tags::PET_FRAME_TYPE_SEQUENCE];
    let item = sequences.into_iter().find_map(|sequence| functional_group(instance, frame, sequence))?;
    let whole = text(item, tags::FRAME_TYPE)?;
    let values = whole.split('\\').skip(2).map(str::trim).map(str::to_owned);
    Some(values.chain(text(item, tags::COMPLEX_IMAGE_COMPONENT)).collect::<Vec<_>>().join("\\"))
}

/// Which values of Dimension Index Values count positions: those of In-Stack Position Number, and of what lies in Plane
/// Position (PS3.3 C.7.6.17).
fn dimension_of_position(instance: &Instance) -> Vec<usize> {
    let items =
        instance.element(tags::DIMENSION_INDEX_SEQUENCE).and_then(|element| element.items()).unwrap_or_default();
    let of_position = |item: &InMemDicomObject| {
        let points_to = |tag, wanted: &[Tag]| match item.get(tag)?.value().primitive()? {
            PrimitiveValue::Tags(found) => Some(wanted.contains(found.first()?)),
            _ => None,
        };
        points_to(tags::DIMENSION_INDEX_POINTER, &[tags::IN_STACK_POSITION_NUMBER, tags::IMAGE_POSITION_PATIENT])
            .unwrap_or(false)
            || points_to(tags::FUNCTIONAL_GROUP_POINTER, &[tags::PLANE_POSITION_SEQUENCE]).unwrap_or(false)
    };
    items.iter().enumerate().filter(|(_, item)| of_position(item)).map(|(index, _)| index).collect()
}

/// Numbers as they are compared: to so many digits after the point, because files round them differently.
fn joined(values: &[f64], digits: usize) -> String {
    // Adding 0 makes one zero of the two that there are.
    let parts: Vec<String> = values.iter().map(|value| format!("{:.digits$}", rounded(*value, digits) + 0.0)).collect();
    parts.join("\\")
}

fn rounded(value: f64, digits: usize) -> f64 {
    let factor = 10f64.powi(i32::try_from(digits).unwrap_or(0));
    (value * factor).round() / factor
}

/// The first value of a numeric attribute of an item, without complaint.
pub(crate) fn value(item: &InMemDicomObject, tag: Tag) -> Option<f64> {
    number(item, tag, "a value").ok().flatten()
}
