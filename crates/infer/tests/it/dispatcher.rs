//! The queue in front of a model.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use infer::{Answer, Cancel, Dispatcher, Error, Request, Scripted};

/// A backend that says when it begins and goes on until it is told to, or cancelled.
fn gated() -> (Scripted, Receiver<()>, Sender<()>) {
    let (began, begins) = channel();
    let (go, goes) = channel::<()>();
    let backend = Scripted::new(move |_, cancel: &Cancel| {
        began.send(()).expect("somebody listens");
        loop {
            cancel.check()?;
            if goes.recv_timeout(Duration::from_millis(1)).is_ok() {
                return Ok(Answer::scripted("done"));
            }
        }
    });
    (backend, begins, go)
}

#[test]
fn answers_in_turn() {
    let dispatcher = Dispatcher::start(Scripted::saying(["one", "two"]), 4).expect("starts");
    let tickets: Vec<_> = (0..3).map(|_| dispatcher.submit(Request::default(), None).expect("room")).collect();
    let texts: Vec<String> = tickets.into_iter().map(|ticket| ticket.wait().expect("answers").text).collect();
    assert_eq!(texts, ["one", "two", "two"]);
}

#[test]
fn a_full_queue_says_so() {
    let (backend, begins, go) = gated();
    let dispatcher = Dispatcher::start(backend, 1).expect("starts");
    let first = dispatcher.submit(Request::default(), None).expect("runs");
    begins.recv().expect("the first runs");
    let second = dispatcher.submit(Request::default(), None).expect("waits");
    assert_eq!(dispatcher.waiting(), 1);
    let refused = dispatcher.submit(Request::default(), None).expect_err("no room");
    assert!(matches!(refused, Error::Busy { capacity: 1 }), "{refused}");
    go.send(()).expect("goes");
    go.send(()).expect("goes");
    assert_eq!(first.wait().expect("answers").text, "done");
    assert_eq!(second.wait().expect("answers").text, "done");
    assert_eq!(dispatcher.waiting(), 0);
}

#[test]
fn deadlines_and_cancellation_end_the_job_not_the_thread() {
    let (backend, begins, go) = gated();
    let dispatcher = Dispatcher::start(backend, 2).expect("starts");
    let soon = Instant::now() + Duration::from_millis(20);
    let late = dispatcher.submit(Request::default(), Some(soon)).expect("room").wait();
    assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
    begins.recv().expect("it ran");

    let ticket = dispatcher.submit(Request::default(), None).expect("room");
    begins.recv().expect("it runs");
    let cancel = ticket.cancel_handle();
    let waiter = thread::spawn(move || ticket.wait());
    cancel.cancel();
    let cancelled = waiter.join().expect("waits");
    assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");

    let ticket = dispatcher.submit(Request::default(), None).expect("room");
    begins.recv().expect("it runs");
    drop(ticket);
    let ticket = dispatcher.submit(Request::default(), None).expect("room");
    begins.recv().expect("the dropped one made room");
    go.send(()).expect("goes");
    assert_eq!(ticket.wait().expect("answers").text, "done");
}

#[test]
fn a_panic_is_an_error_of_that_job() {
    let mut first = true;
    let backend = Scripted::new(move |_, _| {
        assert!(!std::mem::take(&mut first), "on purpose");
        Ok(Answer::scripted("still here"))
    });
    let dispatcher = Dispatcher::start(backend, 1).expect("starts");
    let error = dispatcher.submit(Request::default(), None).expect("room").wait().expect_err("panicked");
    assert!(matches!(&error, Error::Defect(message) if message.contains("on purpose")), "{error}");
    assert_eq!(dispatcher.submit(Request::default(), None).expect("room").wait().expect("answers").text, "still here");
}

#[test]
fn out_of_memory_ends_the_job_and_the_model_serves_on() {
    // What `Model::run` returns when ONNX Runtime reports it, what C++ and Rust panic with, and what is no such thing.
    let mut turns = 0;
    let backend = Scripted::new(move |_, _| {
        turns += 1;
        match turns {
            1 => {
                Err(Error::OutOfMemory("Failed to allocate memory for requested buffer of size 8589934592".to_owned()))
            }
            2 => panic!("std::bad_alloc"),
            3 => panic!("capacity overflow"),
            4 => panic!("index out of bounds"),
            _ => Ok(Answer::scripted("still here")),
        }
    });
    let dispatcher = Dispatcher::start(backend, 1).expect("starts");
    let ask = || dispatcher.submit(Request::default(), None).expect("room").wait();
    for words in ["8589934592", "std::bad_alloc", "capacity overflow"] {
        let error = ask().expect_err("no memory");
        assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
        let said = error.to_string();
        assert!(said.contains(words) && said.contains("fewer or smaller images"), "{said}");
    }
    assert!(matches!(ask(), Err(Error::Defect(_))));
    assert_eq!(ask().expect("answers").text, "still here");
}

#[test]
fn dropping_it_ends_what_runs_and_what_waits() {
    let (backend, begins, _go) = gated();
    let dispatcher = Dispatcher::start(backend, 1).expect("starts");
    let runs = dispatcher.submit(Request::default(), None).expect("runs");
    begins.recv().expect("it runs");
    let waits = dispatcher.submit(Request::default(), None).expect("waits");
    drop(dispatcher);
    for ticket in [runs, waits] {
        assert!(matches!(ticket.wait(), Err(Error::Cancelled)));
    }
}
