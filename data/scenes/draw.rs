//! Draws a scene: signed-distance shapes whose coverage of a pixel is its distance to the outline, over a soft
//! two-colour background with grain.
//!
//! Distances are in units of the object's radius. One sample a pixel is enough because the coverage is analytic; a
//! 32 x 32 scene takes some tens of microseconds.

use super::scene::{Colour, Material, Object, Scene, Shape};
use crate::data::Picture;
use crate::kernels::random::Stream;

type Rgb = [f32; 3];

/// Draws `scene` at `size` x `size` pixels; the stream decides the background and its grain.
pub(super) fn draw(scene: &Scene, size: u32, stream: &mut Stream) -> Picture {
    let side = size as usize;
    let mut canvas = background(scene, side, stream);
    for object in &scene.objects {
        paint(&mut canvas, side, object);
    }
    let rgb = canvas.iter().flatten().map(|value| value.clamp(0.0, 255.0).round() as u8).collect();
    Picture { width: size, height: size, rgb }
}

/// A gradient between two muted colours as far as possible from the colours of the objects.
fn background(scene: &Scene, side: usize, stream: &mut Stream) -> Vec<Rgb> {
    let mut best = ([0.0; 3], f32::NEG_INFINITY);
    for _ in 0..5 {
        let base = 60.0 + 165.0 * stream.f32();
        let candidate = [0, 1, 2].map(|_| base + 50.0 * (stream.f32() - 0.5));
        let contrast = scene
            .objects
            .iter()
            .map(|object| distance(candidate, rgb(object.colour)))
            .fold(f32::INFINITY, f32::min);
        if contrast > best.1 {
            best = (candidate, contrast);
        }
    }
    let [start, end] = [0, 1].map(|_| [0, 1, 2].map(|channel| best.0[channel] + 24.0 * (stream.f32() - 0.5)));
    let turn = stream.f32() * std::f32::consts::TAU;
    let (across, down) = (turn.cos() / side as f32, turn.sin() / side as f32);
    let mut canvas = Vec::with_capacity(side * side);
    for y in 0..side {
        for x in 0..side {
            let along = 0.5 + (x as f32 - side as f32 / 2.0) * across + (y as f32 - side as f32 / 2.0) * down;
            let grain = (stream.u32() >> 24) as f32 / 255.0 * 10.0 - 5.0;
            canvas.push(mix(start, end, along.clamp(0.0, 1.0)).map(|value| value + grain));
        }
    }
    canvas
}

fn paint(canvas: &mut [Rgb], side: usize, object: &Object) {
    let pixel = 1.0 / (side as f32 * object.radius);
    let [left, top, right, bottom] = object.bounds();
    let range = |low: f32, high: f32| {
        let low = (low * side as f32).floor() as usize;
        let high = (high * side as f32).ceil() as usize;
        low.saturating_sub(1)..(high + 1).min(side)
    };
    let (sine, cosine) = object.angle.sin_cos();
    for y in range(top, bottom) {
        for x in range(left, right) {
            let across = ((x as f32 + 0.5) / side as f32 - object.x) / object.radius;
            let down = ((y as f32 + 0.5) / side as f32 - object.y) / object.radius;
            let (u, v) = (across * cosine + down * sine, down * cosine - across * sine);
            let outside = outline(object.shape, u, v);
            let coverage = (0.5 - outside / pixel).clamp(0.0, 1.0);
            if coverage > 0.0 {
                let place = y * side + x;
                let colour = surface(object, [u, v], [across, down], outside, pixel);
                let edge = ((outside + 0.1) / pixel + 0.5).clamp(0.0, 1.0) * 0.45;
                let colour = mix(colour, [20.0, 20.0, 24.0], edge);
                canvas[place] = mix(canvas[place], colour, coverage);
            }
        }
    }
}

/// The colour at (u, v) in the object's own axes, (x, y) in the picture's, `outside` the signed distance there.
fn surface(object: &Object, [u, v]: [f32; 2], [x, y]: [f32; 2], outside: f32, pixel: f32) -> Rgb {
    let colour = rgb(object.colour);
    // Patterns go towards black on light colours and towards white on dark ones.
    let light = colour[0] * 0.3 + colour[1] * 0.59 + colour[2] * 0.11;
    let contrast = if light > 150.0 { mix(colour, [0.0; 3], 0.5) } else { mix(colour, [255.0; 3], 0.7) };
    let soft = |signed: f32| (0.5 - signed / pixel).clamp(0.0, 1.0);
    match object.material {
        Material::Plain => colour,
        Material::Striped => {
            let period = 0.5f32.max(3.0 * pixel);
            let phase = ((u + v) * std::f32::consts::FRAC_1_SQRT_2 / period).rem_euclid(1.0);
            mix(colour, contrast, soft(((phase - 0.5).abs() - 0.22) * period))
        }
        Material::Dotted => {
            let period = 0.56f32.max(3.4 * pixel);
            let cell = |value: f32| (value / period + 0.5).rem_euclid(1.0) - 0.5;
            // Dots that were cut by the outline would read as notches in the shape.
            let inner = (-outside / 0.14).clamp(0.0, 1.0);
            mix(colour, contrast, inner * soft((cell(u).hypot(cell(v)) - 0.3) * period))
        }
        Material::Shiny => {
            let shade = mix(colour, [0.0; 3], (0.25 + 0.35 * (x + y)).clamp(0.0, 0.5));
            let glint = (1.0 - (x + 0.3).hypot(y + 0.32) / 0.55).clamp(0.0, 1.0);
            mix(shade, [255.0; 3], (1.6 * glint).min(1.0))
        }
    }
}

/// The signed distance to the outline, negative inside, for shapes that fit the unit circle.
fn outline(shape: Shape, x: f32, y: f32) -> f32 {
    match shape {
        Shape::Circle => x.hypot(y) - 0.92,
        Shape::Ring => (x.hypot(y) - 0.66).abs() - 0.28,
        Shape::Square => x.abs().max(y.abs()) - 0.78,
        Shape::Diamond => (x.abs() + y.abs() * 0.62 - 0.6) / 1.0f32.hypot(0.62),
        Shape::Triangle => {
            let side = (x.abs() * 0.88 - (y + 0.9) * 0.47) / 0.88f32.hypot(0.47);
            side.max(y - 0.74)
        }
        Shape::Cross => {
            let (long, short) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
            (long - 0.9).max(short - 0.28)
        }
        Shape::Moon => (x.hypot(y) - 0.92).max(0.72 - (x - 0.42).hypot(y + 0.12)),
        Shape::Star => {
            // Fold the plane onto half a point of the star, then measure to its one straight edge.
            let tenth = std::f32::consts::PI / 5.0;
            let angle = (x.atan2(-y).rem_euclid(2.0 * tenth) - tenth).abs();
            let radius = x.hypot(y);
            let (px, py) = (radius * (tenth - angle).cos(), radius * (tenth - angle).sin());
            let (ix, iy) = (0.46 * tenth.cos(), 0.46 * tenth.sin());
            let (ex, ey) = (ix - 1.0, iy);
            (ex * py - ey * (px - 1.0)) / -ex.hypot(ey)
        }
        Shape::Heart => {
            let x = x.abs();
            let (bump, tip) =
                ((x - 0.44).hypot(y + 0.32) - 0.48, (x + y - 0.87) * std::f32::consts::FRAC_1_SQRT_2);
            let wedge = tip.max(-0.32 - y).max(x - y - 1.3);
            bump.min(wedge)
        }
    }
}

fn rgb(colour: Colour) -> Rgb {
    match colour {
        Colour::Red => [222.0, 30.0, 38.0],
        Colour::Orange => [255.0, 132.0, 0.0],
        Colour::Yellow => [255.0, 226.0, 30.0],
        Colour::Green => [30.0, 160.0, 60.0],
        Colour::Blue => [30.0, 90.0, 230.0],
        Colour::Purple => [128.0, 40.0, 180.0],
        Colour::Pink => [255.0, 130.0, 190.0],
        Colour::Brown => [120.0, 68.0, 28.0],
        Colour::Black => [22.0, 22.0, 26.0],
        Colour::White => [250.0, 250.0, 250.0],
    }
}

fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

fn distance(a: Rgb, b: Rgb) -> f32 {
    (0..3).map(|channel| (a[channel] - b[channel]).powi(2)).sum::<f32>().sqrt()
}
