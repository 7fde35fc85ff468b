// Turns a sequence's tokens into text, on the engine's thread, and ends it where it is to end.
#pragma once
#include <chrono>
#include <memory>
#include <vector>

#include "serve/generation_request.h"
#include "serve/inbox.h"
#include "serve/metrics.h"
#include "text/text_output.h"

namespace farskip::serve {

/// Stop tokens are the listener's business, not the engine's: so they come with their
/// log-probabilities, which lm_eval counts on.
class SequenceListener final : public engine::Listener {
 public:
  /// `inbox` hears of it as `sequence`.
  SequenceListener(const text::Tokenizer& tokenizer, const GenerationRequest& request,
                   std::shared_ptr<Inbox> inbox, size_t sequence, std::shared_ptr<Metrics> metrics);

  void on_prompt(const std::vector<engine::Token>& tokens) override;
  bool on_token(const engine::Token& token) override;
  void on_finish(const engine::Outcome& outcome) override;

 private:
  using Clock = std::chrono::steady_clock;

  text::TextOutput text_;
  std::vector<int64_t> stop_tokens_;
  bool tells_stop_tokens_;
  std::shared_ptr<Inbox> inbox_;
  size_t sequence_;
  std::shared_ptr<Metrics> metrics_;
  std::optional<Clock::time_point> last_token_;
};

}  // namespace farskip::serve
