// SPDX-License-Identifier: Apache-2.0
//! Makes metrics, registers them and remembers what they are for the reference.

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder as _, Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec,
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder,
};

/// One metric as the reference lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) labels: Vec<String>,
    pub(super) help: String,
}

#[derive(Debug)]
pub(super) struct Registry {
    registry: prometheus::Registry,
    pub(super) descriptions: Vec<Description>,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { registry: prometheus::Registry::new(), descriptions: Vec::new() }
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        c: C,
    ) -> Result<C, Error> {
        self.descriptions.extend(c.desc().into_iter().map(|desc| Description {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }));
        self.registry.register(Box::new(c.clone()))?;
        Ok(c)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add("gauge", IntGauge::new(name, help)?)
    }

    pub(super) fn float_gauge(&mut self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.add("gauge", Gauge::new(name, help)?)
    }

    pub(super) fn float_counter(&mut self, name: &str, help: &str) -> Result<Counter, Error> {
        self.add("counter", Counter::new(name, help)?)
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, Error> {
        self.add("gauge", GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn int_gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, Error> {
        self.add("gauge", IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add("counter", IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, Error> {
        self.add("counter", IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<Histogram, Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.add("histogram", Histogram::with_opts(options)?)
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Vec<f64>,
    ) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        self.add("histogram", HistogramVec::new(options, labels)?)
    }

    /// The exposition format, text 0.0.4.
    pub(super) fn text(&self) -> Result<String, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| Error::Msg(error.to_string()))
    }
}
