#include "serve/generation.h"

#include "serve/sequence_listener.h"

namespace farskip::serve {

using io::Json;

Generation::Generation(Backend& backend, const text::Tokenizer& tokenizer,
                       std::shared_ptr<Metrics> metrics, GenerationRequest request, AnswerHead head)
    : backend_(backend),
      tokenizer_(tokenizer),
      metrics_(std::move(metrics)),
      request_(std::move(request)),
      head_(std::move(head)),
      states_(request_.prompts.size() * request_.choices) {
  inbox_ = std::make_shared<Inbox>(states_.size(), request_.stream);
  try {
    for (size_t sequence = 0; sequence < states_.size(); ++sequence) submit(sequence);
  } catch (const InputError& error) {
    cancel_all();
    throw ApiError(400, error.what());
  } catch (...) {
    cancel_all();
    throw;
  }
  for (const Prompt& prompt : request_.prompts)
    usage_.prompt_tokens += static_cast<int64_t>(prompt.tokens.size());
}

Generation::~Generation() {
  inbox_->notify({});
  cancel_all();
}

void Generation::submit(size_t sequence) {
  const Prompt& prompt = prompt_of(sequence);
  engine::Request request{
      .prompt = prompt.tokens,
      .sampling = request_.sampling,
      .max_new_tokens = prompt.max_tokens,
      .log_probabilities = request_.log_probabilities,
      .prompt_log_probabilities = request_.echo && request_.log_probabilities.has_value()};
  request.sampling.seed += sequence % request_.choices;
  states_[sequence].offsets = TextOffsets(request_.output.skip_special_tokens);
  if (request_.echo) states_[sequence].offsets.echo(prompt.text, prompt.tokens.size());
  states_[sequence].choice.index = static_cast<int64_t>(sequence);
  states_[sequence].id = backend_.submit(
      std::move(request),
      std::make_shared<SequenceListener>(tokenizer_, request_, inbox_, sequence, metrics_));
  ++unfinished_;
}

void Generation::cancel_all() {
  for (size_t sequence = 0; unfinished_ > 0 && sequence < states_.size(); ++sequence) {
    if (states_[sequence].finished || !states_[sequence].id) continue;
    backend_.cancel(*states_[sequence].id);
    states_[sequence].finished = true;
    --unfinished_;
  }
}

std::string Generation::advance() {
  if (done()) return "";
  std::vector<News> news = inbox_->take();
  std::string events;
  for (size_t sequence = 0; sequence < states_.size(); ++sequence)
    if (!states_[sequence].finished) events += take_in(states_[sequence], sequence, news[sequence]);
  if (error_) return events + fail(error_->status, error_->what());
  if (!done() || !streams()) return events;
  if (request_.include_usage) events += send(usage_chunk(head_, usage_));
  return events + event("[DONE]");
}

std::string Generation::take_in(State& state, size_t sequence, News& news) {
  const bool nothing = news.prompt.empty() && news.tokens.empty() && !news.outcome;
  if (nothing) return "";
  std::string events;
  if (!state.begun) events = begin(state, sequence, news);
  if (news.outcome) finish(state, *news.outcome);
  if (!streams()) {
    state.choice.text += news.text;
    if (request_.log_probabilities)
      state.tokens.insert(state.tokens.end(), news.tokens.begin(), news.tokens.end());
    return events;
  }
  Choice piece{state.choice.index, news.text, nullptr, state.choice.finish_reason};
  if (request_.log_probabilities && !news.tokens.empty())
    piece.logprobs = logprobs(state, news.tokens);
  const bool says = !piece.text.empty() || !piece.logprobs.is_null() || state.finished;
  return says && !error_ ? events + send(chunk(head_, piece, request_.include_usage)) : events;
}

std::string Generation::begin(State& state, size_t sequence, News& news) {
  state.begun = true;
  const Prompt& prompt = prompt_of(sequence);
  std::vector<engine::Token> tokens;
  if (request_.echo && request_.log_probabilities) {
    tokens.push_back({prompt.tokens.front()});  // nothing foretold the first
    tokens.insert(tokens.end(), news.prompt.begin(), news.prompt.end());
  }
  if (!streams()) {
    if (request_.echo) state.choice.text = prompt.text;
    state.tokens = std::move(tokens);
    return "";
  }
  if (request_.endpoint == GenerationRequest::Endpoint::chat)
    return send(role_chunk(head_, state.choice.index, request_.include_usage));
  if (!request_.echo) return "";
  Choice piece{state.choice.index, prompt.text};
  if (request_.log_probabilities) piece.logprobs = logprobs(state, tokens);
  return send(chunk(head_, piece, request_.include_usage));
}

void Generation::finish(State& state, const engine::Outcome& outcome) {
  state.finished = true;
  --unfinished_;
  usage_.completion_tokens += outcome.new_tokens;
  if (state.choice.index % request_.choices == 0) usage_.cached_tokens += outcome.reused_tokens;
  switch (outcome.finish) {
    case engine::Finish::stop:
      state.choice.finish_reason = "stop";
      break;
    case engine::Finish::length:
      state.choice.finish_reason = "length";
      break;
    case engine::Finish::cancelled:
      error_.emplace(503, "the request was cancelled");
      break;
    case engine::Finish::failed:
      error_.emplace(500, outcome.error);
      break;
    case engine::Finish::aborted:
      error_.emplace(503, "the engine failed: " + outcome.error);
  }
}

Json Generation::logprobs(State& state, const std::vector<engine::Token>& tokens) {
  const int64_t count = *request_.log_probabilities;
  return request_.endpoint == GenerationRequest::Endpoint::chat
             ? chat_logprobs(tokenizer_, tokens, count)
             : completion_logprobs(tokenizer_, tokens, count, state.offsets);
}

std::string Generation::fail(int status, const std::string& message) {
  cancel_all();
  error_.emplace(status, message);
  if (!streams()) return "";
  return event(json_text(error_json(*error_))) + event("[DONE]");
}

HttpResponse Generation::response() {
  if (error_) return error_response(*error_);
  std::vector<Choice> choices;
  for (State& state : states_) {
    if (request_.log_probabilities) state.choice.logprobs = logprobs(state, state.tokens);
    choices.push_back(std::move(state.choice));
  }
  return json_response(whole_answer(head_, choices, usage_));
}

std::string Generation::send(const Json& json) const {
  return event(json_text(json));
}

}  // namespace farskip::serve
