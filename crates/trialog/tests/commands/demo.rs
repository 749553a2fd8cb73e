//! The demo's stories through the real binary: what each says is what its report shows,
//! whatever the seed.

use serde_json::Value;

use crate::fixture::Fixture;

const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// The report of an experiment.
struct Report(Value);

impl Report {
    fn read(fixture: &Fixture, arguments: &str) -> Self {
        Self(fixture.json(&format!("results {arguments}")))
    }

    /// The comparison of `treatment` by the metric `name` of a kind.
    fn comparison(&self, name: &str, kind: &str, treatment: &str) -> &Value {
        let metrics = self.0["metrics"].as_array().unwrap();
        let is_it = |metric: &&Value| metric["metric"] == name && metric["kind"] == kind;
        let found = metrics.iter().find(is_it).unwrap();
        let comparisons = found["comparisons"].as_array().unwrap();
        (comparisons.iter())
            .find(|comparison| comparison["treatment"] == treatment)
            .unwrap()
    }

    /// Whether the difference is significant, and if so, whether it is a good one.
    fn verdict(&self, name: &str, kind: &str, treatment: &str) -> Option<bool> {
        let comparison = self.comparison(name, kind, treatment);
        let is_significant = comparison["flag"] == "significant";
        is_significant.then(|| comparison["desirable"].as_bool().unwrap())
    }

    fn fails_the_sample_ratio(&self) -> bool {
        self.0["health"]["srm"]["failed"].as_bool().unwrap()
    }

    fn warnings(&self) -> Vec<&str> {
        let warnings = self.0["health"]["warnings"].as_array().unwrap();
        (warnings.iter())
            .map(|warning| warning["code"].as_str().unwrap())
            .collect()
    }
}

const BETTER: Option<bool> = Some(true);
const WORSE: Option<bool> = Some(false);
const NOT_SIGNIFICANT: Option<bool> = None;

#[test]
fn every_story_is_true_for_every_seed() {
    for seed in SEEDS {
        let fixture = Fixture::empty();
        fixture.good(&format!("demo --exit --seed {seed} --listen 127.0.0.1:0"));

        let checkout = Report::read(&fixture, "checkout_one_page");
        let verdict = checkout.verdict("purchase", "conversion", "one_page");
        assert_eq!(verdict, BETTER, "seed {seed}: the checkout sells more");
        let verdict = checkout.verdict("refund", "conversion", "one_page");
        assert_ne!(verdict, WORSE, "seed {seed}: refunds are as before");
        let ios = Report::read(&fixture, "checkout_one_page --segment platform=ios");
        let verdict = ios.verdict("purchase", "conversion", "one_page");
        assert_eq!(verdict, BETTER, "seed {seed}: strong on iOS");

        let same = Report::read(&fixture, "homepage_aa");
        let verdict = same.verdict("signup", "conversion", "home_again");
        assert_eq!(verdict, NOT_SIGNIFICANT, "seed {seed}: nothing differs");

        let ranking = Report::read(&fixture, "search_ranking");
        let verdict = ranking.verdict("result_click", "conversion", "meaning");
        assert_eq!(verdict, BETTER, "seed {seed}: meaning helps");
        let verdict = ranking.verdict("search_abandon", "conversion", "popularity");
        assert_eq!(
            verdict, WORSE,
            "seed {seed}: popularity harms its guardrail"
        );
        let verdict = ranking.verdict("search_abandon", "conversion", "meaning");
        assert_ne!(verdict, WORSE, "seed {seed}: meaning does not");

        let badges = Report::read(&fixture, "streak_badges");
        let verdict = badges.verdict("lesson_complete", "conversion", "badge");
        assert_eq!(
            verdict, BETTER,
            "seed {seed}: the average over the run is positive"
        );

        let verdict = ranking.verdict("result_click", "conversion", "popularity");
        assert_eq!(verdict, WORSE, "seed {seed}: popularity is worse");

        let trial = Report::read(&fixture, "trial_length");
        let subscribe = trial.comparison("subscribe", "conversion", "trial_30d");
        let [low, high] = [0, 1].map(|end| subscribe["ci"][end].as_f64().unwrap());
        assert!(
            high - low > 4.0 * 0.004,
            "seed {seed}: wider than the planned effect"
        );
        assert_eq!(trial.warnings(), ["stopped_early"], "seed {seed}");

        let redirect = Report::read(&fixture, "landing_redirect");
        assert!(redirect.fails_the_sample_ratio(), "seed {seed}");
        assert!(!redirect.warnings().is_empty(), "seed {seed}");
        assert!(!trial.fails_the_sample_ratio(), "seed {seed}");
        for clean in [&checkout, &same, &ranking, &badges] {
            assert!(!clean.fails_the_sample_ratio(), "seed {seed}");
            assert!(
                clean.warnings().is_empty(),
                "seed {seed}: {:?}",
                clean.warnings()
            );
        }
    }
}
